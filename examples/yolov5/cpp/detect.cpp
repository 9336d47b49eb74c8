// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The example's detector in C++: finds objects on a picture or on every picture of a folder and draws their boxes. What it uses of Lathe is
// the public header; its boxes are those of detect.py.
//
//   detect --engine out/yolov5n_fp32.engine --source out/scene.png --save out/detect

#include <algorithm>
#include <cctype>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "draw.h"
#include "lathe/lathe.hpp"
#include "picture.h"
#include "postprocess.h"

namespace {

using namespace yolov5;  // NOLINT(google-build-using-namespace): the program's own

constexpr const char* kUsage =
    "usage: detect --engine FILE --source PICTURE|FOLDER [options]\n"
    "  --engine FILE   engine made by `lathe build`, or an ONNX file that is built now\n"
    "  --source PATH   a .png or .ppm picture, or a folder of them\n"
    "  --save FOLDER   where the drawn pictures go; '' saves none (default: out/detect)\n"
    "  --names LIST    class names, separated by commas (default: those of the example)\n"
    "  --conf NUMBER   least score (default: 0.25)\n"
    "  --iou NUMBER    overlap from which the weaker box of a class goes (default: 0.45)\n";

struct UsageError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct Options {
  std::filesystem::path engine, source, save = "out/detect";
  std::vector<std::string> names{"mug", "key", "gear", "bolt", "leaf", "star", "arrow", "fish"};  // the order of shapes.py
  float conf = 0.25F, iou = 0.45F;
};

std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> words;
  for (std::size_t at = 0; at <= text.size();) {
    const std::size_t end = std::min(text.find(',', at), text.size());
    words.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return words;
}

float share(const std::string& name, const std::string& text) {
  char* end = nullptr;
  const float value = std::strtof(text.c_str(), &end);
  if (text.empty() || *end != '\0' || !(value >= 0 && value <= 1)) throw UsageError(name + " " + text + ": a number from 0 to 1 is needed");
  return value;
}

Options parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string name = argv[i];
    if (name == "-h" || name == "--help") {
      std::fputs(kUsage, stdout);
      std::exit(0);
    }
    if (i + 1 == argc) throw UsageError("'" + name + "' has no value");
    const std::string value = argv[++i];
    if (name == "--engine") options.engine = value;
    else if (name == "--source") options.source = value;
    else if (name == "--save") options.save = value;
    else if (name == "--names") options.names = split(value);
    else if (name == "--conf") options.conf = share(name, value);
    else if (name == "--iou") options.iou = share(name, value);
    else throw UsageError("there is no option '" + name + "'");
  }
  if (options.engine.empty() || options.source.empty()) throw UsageError("--engine and --source are needed");
  return options;
}

std::vector<std::filesystem::path> pictures(const std::filesystem::path& source) {
  if (!std::filesystem::is_directory(source)) return {source};
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(source))
    if (entry.is_regular_file() && is_picture(entry.path())) files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  if (files.empty()) throw PictureError("There is no .png or .ppm picture in the folder '" + source.string() + "'.");
  return files;
}

/// An engine with one image input [1, 3, height, width] and one output [1, boxes, 5 + classes], and a Context of it.
class Detector {
 public:
  Detector(lathe::Engine engine, const Options& options) : engine_(std::move(engine)), context_(engine_.create_context()), options_(options) {
    const std::vector<lathe::IoInfo> inputs = engine_.inputs(), outputs = engine_.outputs();
    if (inputs.size() != 1 || outputs.size() != 1 || inputs[0].dtype != lathe::DType::kFloat32 || inputs[0].shape.size() != 4 || inputs[0].shape[1] != 3)
      throw UsageError("The engine is no detector: it should have one float32 input [1, 3, height, width] and one output.");
    if (inputs[0].shape[2] <= 0 || inputs[0].shape[3] <= 0) throw UsageError("The engine leaves its picture's size open: build it for one.");
    shape_ = {1, 3, inputs[0].shape[2], inputs[0].shape[3]};
  }

  std::vector<Detection> operator()(const Picture& picture) {
    Fit fit;
    const std::vector<float> input = to_input(letterbox(picture, static_cast<int>(shape_[2]), static_cast<int>(shape_[3]), fit));
    const lathe::ConstTensorView view{input.data(), lathe::DType::kFloat32, shape_};
    if (const lathe::Status status = context_.run(std::span(&view, 1)); !status) throw lathe::Error(status.code(), std::string(status.message()));
    const lathe::ConstTensorView raw = context_.output(0);
    const int classes = static_cast<int>(options_.names.size());
    if (raw.dtype != lathe::DType::kFloat32 || raw.shape.size() != 3 || raw.shape[2] != 5 + classes)
      throw UsageError("The network does not tell " + std::to_string(classes) + " classes apart: give --names.");
    const std::size_t count = static_cast<std::size_t>(raw.shape[1] * raw.shape[2]);
    std::vector<Detection> found = detections({static_cast<const float*>(raw.data), count}, classes, options_.conf, options_.iou);
    scale_back(found, fit, picture.height, picture.width);
    return found;
  }

 private:
  lathe::Engine engine_;
  lathe::Context context_;
  const Options& options_;
  std::vector<std::int64_t> shape_;
};

int detect(const Options& options) {
  const bool is_model = options.engine.extension() == ".onnx";
  Detector detector(is_model ? lathe::build(options.engine) : lathe::Engine::load(options.engine), options);
  if (!options.save.empty()) std::filesystem::create_directories(options.save);
  double seconds = 0;
  std::size_t count = 0;
  for (const std::filesystem::path& file : pictures(options.source)) {
    Picture picture = read_picture(file);
    const auto begin = std::chrono::steady_clock::now();
    const std::vector<Detection> found = detector(picture);
    seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    ++count;
    std::printf("%s: %zu objects\n", file.filename().c_str(), found.size());
    for (const Detection& one : found)
      std::printf("  %-12s %.3f  %7.1f %7.1f %7.1f %7.1f\n", options.names[static_cast<std::size_t>(one.label)].c_str(), static_cast<double>(one.score),
                  static_cast<double>(one.x0), static_cast<double>(one.y0), static_cast<double>(one.x1), static_cast<double>(one.y1));
    if (options.save.empty()) continue;
    draw_boxes(picture, found, options.names);
    // The whole old name stays in the new one, so that a.ppm and a.png do not meet.
    const std::string name = file.filename().string();
    write_png(picture, options.save / (file.extension() == ".png" ? name : name + ".png"));
  }
  if (!options.save.empty()) std::printf("drawn pictures are in %s\n", options.save.c_str());
  std::printf("%zu pictures, %.1f ms each\n", count, 1e3 * seconds / static_cast<double>(count));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return detect(parse(argc, argv));
  } catch (const UsageError& error) {
    std::fprintf(stderr, "detect: %s\n%s", error.what(), kUsage);
    return 2;
  } catch (const std::exception& error) {  // lathe::Error, PictureError, file system
    std::fprintf(stderr, "detect: %s\n", error.what());
    return 1;
  }
}
