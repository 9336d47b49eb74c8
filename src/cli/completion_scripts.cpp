// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Completion for bash and zsh, from the tree of app_tree.h: tables, and the few lines of shell that read them.

#include <fmt/format.h>

#include "cli/app_tree.h"

namespace lathe::cli {
namespace {

std::string join(const nlohmann::json& words, const char* by = " ") {
  std::string text;
  for (const auto& word : words) text += (text.empty() ? "" : by) + word.get<std::string>();
  return text;
}

/// In single quotes.
std::string in_quotes(const std::string& text) {
  std::string out = "'";
  for (const char c : text) out += c == '\'' ? "'\\''" : std::string(1, c);
  return out + "'";
}

// bash -------------------------------------------------------------------------------------------------------------

/// "files onnx engine", "words fp32 bf16": what _lathe_offer reads.
std::string bash_kind(const nlohmann::json& entry) {
  std::string kind = entry["kind"].get<std::string>();
  if (entry["named"].get<bool>()) kind = "named-" + kind;
  return entry["words"].empty() ? kind : kind + " " + join(entry["words"]);
}

void bash_tables(const nlohmann::json& node, const std::string& path, std::string& tables, std::string& kinds) {
  std::string subs, flags, arguments, more;
  for (const auto& command : node["commands"]) subs += (subs.empty() ? "" : " ") + command["name"].get<std::string>();
  for (const auto& option : node["options"]) {
    flags += (flags.empty() ? "" : " ") + join(option["names"]);
    if (!option.contains("value")) continue;
    std::string names;
    for (const auto& name : option["names"]) names += fmt::format("{}'{} {}'", names.empty() ? "" : "|", path, name.get<std::string>());
    kinds += fmt::format("    {}) kind={};;\n", names, in_quotes(bash_kind(option)));
  }
  for (const auto& argument : node["arguments"]) {
    arguments += " " + in_quotes(bash_kind(argument));
    if (argument["repeatable"].get<bool>()) more = bash_kind(argument);
  }
  tables += fmt::format("    {}) subs={} flags={} args=({}) more={};;\n", in_quotes(path), in_quotes(subs), in_quotes(flags),
                        arguments.empty() ? arguments : arguments.substr(1), in_quotes(more));
  for (const auto& command : node["commands"])
    bash_tables(command, path.empty() ? command["name"].get<std::string>() : path + " " + command["name"].get<std::string>(), tables, kinds);
}

constexpr std::string_view kBash = R"sh(
# $1: a kind and its words, $2: what was typed so far. Fills COMPREPLY.
_LATHE_offer() {
  local kind="${1%% *}" words="${1#* }" typed="$2" before="" ending
  case "$kind" in named-*)
    [[ "$typed" == *=* ]] || return 0
    before="${typed%%=*}=" typed="${typed#*=}" kind="${kind#named-}";;
  esac
  case "$kind" in
    words) COMPREPLY=($(compgen -W "$words" -- "$typed"));;
    list)
      [[ "$typed" == *,* ]] && before="$before${typed%,*},"
      COMPREPLY=($(compgen -W "$words" -- "${typed##*,}"));;
    files|file|folder)
      compopt -o filenames 2>/dev/null
      local found=() IFS=$'\n'
      if [[ "$kind" == files ]]; then
        IFS=' '
        for ending in $words; do IFS=$'\n'; found+=($(compgen -f -X "!*.$ending" -- "$typed")); done
        # Without one of the right name any file will do.
        IFS=$'\n'
        ((${#found[@]})) || found=($(compgen -f -- "$typed"))
      elif [[ "$kind" == file ]]; then found=($(compgen -f -- "$typed"))
      fi
      local folders=($(compgen -d -- "$typed")) folder
      for folder in "${folders[@]}"; do [[ $'\n'"${found[*]}"$'\n' == *$'\n'"$folder"$'\n'* ]] || found+=("$folder"); done
      COMPREPLY=("${found[@]}");;
  esac
  [[ -z "$before" ]] || COMPREPLY=("${COMPREPLY[@]/#/$before}")
}

_LATHE() {
  local line="${COMP_LINE:0:COMP_POINT}" words word each path="" option="" kind at=0 i subs flags args more cut="" sign
  COMPREPLY=()
  # Words end at spaces alone here; readline's end at '=' and ':' too.
  read -a words <<< "$line"
  [[ "$line" == *[[:space:]] ]] && words+=("")
  while ((${#words[@]} > 1)) && [[ "${words[0]}" == *=* ]]; do words=("${words[@]:1}"); done  # X=1 lathe ...
  word="${words[${#words[@]} - 1]}"
  _LATHE_tables ""
  for ((i = 1; i < ${#words[@]} - 1; ++i)); do
    each="${words[i]}" kind=""
    if [[ -n "$option" ]]; then option=""
    elif [[ "$each" == -* ]]; then
      [[ "$each" == *=* ]] || _LATHE_kind "$path" "$each"
      [[ -z "$kind" ]] || option="$each"
    elif ((at == 0)) && [[ " $subs " == *" $each "* ]]; then
      path="${path:+$path }$each"
      _LATHE_tables "$path"
    else at=$((at + 1))
    fi
  done
  kind=""
  if [[ -n "$option" ]]; then
    _LATHE_kind "$path" "$option"
    _LATHE_offer "$kind" "$word"
  elif [[ "$word" == --*=* ]]; then
    _LATHE_kind "$path" "${word%%=*}"
    _LATHE_offer "$kind" "${word#*=}"
    COMPREPLY=("${COMPREPLY[@]/#/${word%%=*}=}")
  elif [[ "$word" == -* ]]; then COMPREPLY=($(compgen -W "$flags" -- "$word"))
  elif [[ -n "$subs" ]]; then ((at)) || COMPREPLY=($(compgen -W "$subs" -- "$word"))
  else _LATHE_offer "${args[at]:-$more}" "$word"
  fi
  # What readline takes for finished already is not given again.
  for sign in = :; do
    [[ "$COMP_WORDBREAKS" == *"$sign"* && "$word" == *"$sign"* ]] || continue
    [[ "${word%"$sign"*}$sign" == "$cut"* ]] && cut="${word%"$sign"*}$sign"
  done
  [[ -z "$cut" ]] || COMPREPLY=("${COMPREPLY[@]#"$cut"}")
}
)sh";

// zsh --------------------------------------------------------------------------------------------------------------

/// Text inside of a specification: brackets and colons have a meaning there.
std::string zsh_text(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '[' || c == ']' || c == ':' || c == '\\') out += '\\';
    out += c;
  }
  return out;
}

/// ":message:action" of a value.
std::string zsh_value(const nlohmann::json& entry) {
  const std::string kind = entry["kind"].get<std::string>(), message = zsh_text(entry["value"].get<std::string>());
  const std::string files = entry["named"].get<bool>() ? "_LATHE_named" : "_files";
  std::string action = " ";
  if (kind == "words") action = "(" + zsh_text(join(entry["words"])) + ")";
  if (kind == "list") action = " _values -s , value " + zsh_text(join(entry["words"]));
  if (kind == "files") action = fmt::format("{} -g \"*.({})(-.)\"", files, join(entry["words"], "|"));
  if (kind == "file") action = files;
  if (kind == "folder") action = files + " -/";
  return ":" + message + ":" + action;
}

void zsh_function(const nlohmann::json& node, const std::string& name, std::string& script) {
  std::string specs;
  const auto add = [&](const std::string& spec) { specs += " \\\n    " + spec; };
  for (const auto& option : node["options"]) {
    const std::string help = "[" + zsh_text(option["help"].get<std::string>()) + "]";
    const bool takes = option.contains("value"), repeats = takes && option["repeatable"].get<bool>();
    for (const auto& each : option["names"]) {
      const std::string word = each.get<std::string>(), form = takes ? word + (word[1] == '-' ? "=" : "+") : word;
      add(in_quotes(fmt::format("{}{}{}{}", repeats ? "*" : fmt::format("({})", join(option["names"])), form, help, takes ? zsh_value(option) : "")));
    }
  }
  std::string body;
  if (node["commands"].empty()) {
    int place = 1;
    for (const auto& argument : node["arguments"]) {
      const bool many = argument["repeatable"].get<bool>();
      add(in_quotes((many ? std::string("*") : fmt::format("{}", place++)) + zsh_value(argument)));
    }
    body = "  _arguments -s -S" + specs + "\n";
  } else {
    std::string list, cases;
    for (const auto& command : node["commands"]) {
      const std::string word = command["name"].get<std::string>();
      list += fmt::format("      {}\n", in_quotes(word + ":" + command["description"].get<std::string>()));
      cases += fmt::format("      {}) {}_{} && ret=0;;\n", word, name, word);
    }
    body = fmt::format(
        "  local curcontext=\"$curcontext\" state line ret=1\n  typeset -A opt_args\n"
        "  _arguments -C{} \\\n    '1: :->command' '*:: :->rest' && ret=0\n"
        "  case $state in\n    command)\n      local -a commands=(\n{}      )\n      _describe -t commands command commands && ret=0;;\n"
        "    rest) case $line[1] in\n{}    esac;;\n  esac\n  return ret\n",
        specs, list, cases);
  }
  script += fmt::format("\n{}() {{\n{}}}\n", name, body);
  for (const auto& command : node["commands"]) zsh_function(command, name + "_" + command["name"].get<std::string>(), script);
}

std::string with_name(std::string_view text, const std::string& name) {
  std::string out;
  while (!text.empty()) {
    const auto at = text.find("_LATHE");
    out += text.substr(0, at);
    if (at == std::string_view::npos) break;
    out += name;
    text.remove_prefix(at + 6);
  }
  return out;
}

}  // namespace

std::string bash_completion(const nlohmann::json& tree, const std::string& command) {
  std::string tables, kinds;
  bash_tables(tree, "", tables, kinds);
  const std::string name = "_" + command;
  return with_name(fmt::format("# Completion of {0} for bash; `{0} completion bash` made it.\n\n"
                               "# $1: subcommands so far. Sets what may follow: subcommands, options, kinds of the arguments.\n"
                               "_LATHE_tables() {{\n  case \"$1\" in\n{1}    *) subs='' flags='' args=() more='';;\n  esac\n}}\n\n"
                               "# $1: subcommands, $2: an option. Sets the kind of its value; nothing where it takes none.\n"
                               "_LATHE_kind() {{\n  kind=''\n  case \"$1 $2\" in\n{2}  esac\n}}\n",
                               command, tables, kinds),
                   name) +
         with_name(kBash, name) + fmt::format("complete -F {} {}\n", name, command);
}

std::string zsh_completion(const nlohmann::json& tree, const std::string& command) {
  const std::string name = "_" + command;
  std::string script = fmt::format("#compdef {0}\n# Completion of {0} for zsh; `{0} completion zsh` made it.\n", command);
  zsh_function(tree, name, script);
  return with_name(script, name) + fmt::format(
                                       "\n{0}_named() {{ compset -P '*='; _files \"$@\" }}\n\n"
                                       "if [[ \"$funcstack[1]\" == {0} ]]; then {0} \"$@\"; else\n"
                                       "  (( $+functions[compdef] )) || {{ autoload -Uz compinit && compinit }}\n  compdef {0} {1}\nfi\n",
                                       name, command);
}

}  // namespace lathe::cli
