# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""Operators on strings: what ONNX's own cases leave open, against the format's reference and ONNX Runtime where those agree with the format's text."""

import numpy as np
import pytest

from one_node import model_of, onnx_runtimes, ours, same, text, the_formats


def check(folder, op, inputs, against, outputs=1, rtol=0, **attributes):
    model = model_of(op, inputs, outputs, **attributes)
    same(ours(folder, model, inputs), against(model, inputs) if callable(against) else against, rtol)


def fails(folder, op, inputs, *parts, **attributes):
    message = ours(folder, model_of(op, inputs, **attributes), inputs)
    assert isinstance(message, str), message
    for part in (op, *parts):
        assert part in message, message


# StringConcat -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("x", "y"), [((2,), (3, 1)), ((), (2, 2)), ((0,), (1,)), ((1, 3), (2, 1, 1)), ((0, 1), (1, 4))])
def test_concat_broadcasts(tmp_path, x, y):
    make = lambda shape, letter: text(*(f"{letter}{i}ü" for i in range(int(np.prod(shape)))), shape=shape)  # noqa: E731
    inputs = [make(x, "a"), make(y, "b")]
    check(tmp_path, "StringConcat", inputs, onnx_runtimes)


def test_concat_of_other_shapes_fails(tmp_path):
    fails(tmp_path, "StringConcat", [text("a", "b"), text("a", "b", "c")], "do not broadcast")


# StringSplit --------------------------------------------------------------------------------------------------------

PIECES = text("", "-", "a-b-c", "a--b---c", "aaaaa", "--", "-a", "b-", "ä-ö")
SPACED = text("", " ", "a b  c", "\ta\n b\u00a0c\u2003d", "x\x1cy\x0bz\x0c", "\u3000", "a", shape=(7, 1))


@pytest.mark.parametrize("maxsplit", [None, 0, 1, 2, -1])
@pytest.mark.parametrize("delimiter", ["-", "--", "aa", "ä"])
def test_split_at_a_delimiter(tmp_path, delimiter, maxsplit):
    check(tmp_path, "StringSplit", [PIECES], the_formats, 2, delimiter=delimiter, maxsplit=maxsplit)


@pytest.mark.parametrize("delimiter", [None, ""])
def test_split_at_white_space(tmp_path, delimiter):
    check(tmp_path, "StringSplit", [SPACED], the_formats, 2, delimiter=delimiter)


def test_the_rest_keeps_its_inner_space(tmp_path):
    # The format says that white space at the end is removed; its reference keeps it there.
    check(tmp_path, "StringSplit", [text(" a  b  c  ", "a")], [text("a", "b  c", "a", "", shape=(2, 2)), np.array([2, 1])], 2, maxsplit=1)


@pytest.mark.parametrize("shape", [(0,), (2, 0), (0, 3)])
def test_split_of_nothing(tmp_path, shape):
    empty = np.empty(shape, dtype=object)
    check(tmp_path, "StringSplit", [empty], [np.empty((*shape, 0), dtype=object), np.empty(shape, dtype=np.int64)], 2)


def test_split_of_one(tmp_path):
    check(tmp_path, "StringSplit", [text("a b", shape=())], [text("a", "b"), np.array(2)], 2)


# RegexFullMatch -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pattern", ["", "a|ab", ".*", "(?i)AB", "[[:alpha:]]+", r"\pL+", "(a*)*b", r"^ab$", "(?s)a.b", "ü?"])
def test_match(tmp_path, pattern):
    strings = text("", "a", "ab", "abc", "é", "a\nb", "ü", "12", "a" * 2000 + "b", shape=(3, 3))
    check(tmp_path, "RegexFullMatch", [strings], onnx_runtimes, pattern=pattern)


def test_match_of_bytes_that_are_no_text(tmp_path):
    check(tmp_path, "RegexFullMatch", [text(b"a\xff", b"\xc3\xa9", b"ab")], [np.array([False, False, True])], pattern="..")


def test_patterns_that_fail(tmp_path):
    fails(tmp_path, "RegexFullMatch", [text("a")], "'pattern'")
    for pattern, why in {"(": "missing )", r"\1": "invalid escape", "(?=a)": "invalid perl operator", "a{2000}": "repetition", "[z-a]": "range"}.items():
        fails(tmp_path, "RegexFullMatch", [text("a")], "no regular expression", why, pattern=pattern)


# StringNormalizer ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "attributes", "expected"),
    [
        (["Straße", "ÉTÉ", "", "a b"], {"case_change_action": "LOWER"}, ["straße", "été", "", "a b"]),
        (["Straße", "été", "çé", "ΑΣς"], {"case_change_action": "UPPER"}, ["STRAßE", "ÉTÉ", "ÇÉ", "ΑΣΣ"]),
        (["Été", "ete", "ÉTÉ"], {"stopwords": ["été"]}, ["ete"]),
        (["Été", "été"], {"stopwords": ["été"], "is_case_sensitive": 1}, ["Été"]),
        (["a", "A"], {"stopwords": ["A"]}, [""]),
        ([], {"case_change_action": "LOWER"}, [""]),
        ([], {}, [""]),
        (["i", "I"], {"case_change_action": "UPPER", "locale": "tr_TR"}, ["İ", "I"]),
        (["i", "I"], {"case_change_action": "LOWER", "locale": "tr_TR.UTF-8"}, ["i", "ı"]),
        (["i", "I"], {"case_change_action": "LOWER", "locale": "en_US"}, ["i", "i"]),
    ],
)
@pytest.mark.parametrize("row", [False, True])
def test_normalizer(tmp_path, given, attributes, expected, row):
    x, y = text(*given), text(*expected)
    check(tmp_path, "StringNormalizer", [x[None] if row else x], [y[None] if row else y], **attributes)


def test_normalizer_without_case_takes_any_bytes(tmp_path):
    # The tool prints what is no UTF-8 with a replacement character.
    assert not isinstance(ours(tmp_path, model_of("StringNormalizer", [text(b"\xff")], is_case_sensitive=1, stopwords=["b"]), [text(b"\xff")]), str)


def test_normalizer_fails(tmp_path):
    fails(tmp_path, "StringNormalizer", [text("a")], "case_change_action is 'lower'", case_change_action="lower")
    fails(tmp_path, "StringNormalizer", [text("a", "b", shape=(2, 1))], "[C] or [1, C]")
    fails(tmp_path, "StringNormalizer", [text("a", shape=())], "[C] or [1, C]")
    fails(tmp_path, "StringNormalizer", [text(b"a", b"\xff")], "element 1 is no valid UTF-8", case_change_action="LOWER")


# TfIdfVectorizer ----------------------------------------------------------------------------------------------------

BIGRAMS = {"ngram_counts": [0, 2], "pool_int64s": [1, 3, 1, 2], "weights": [10.0, 100.0, 1000.0], "min_gram_length": 1, "max_gram_length": 2}
ROWS = np.array([[1, 2, 3, 1, 2], [3, 3, 3, 2, 1]], dtype=np.int64)


@pytest.mark.parametrize("indexes", [[0, 1, 2], [3, 1, 0], [2, 1, 0], [0, 1, 0]])
@pytest.mark.parametrize("skips", [0, 1, 5])
@pytest.mark.parametrize("mode", ["TF", "IDF", "TFIDF"])
def test_vectorizer(tmp_path, mode, skips, indexes):
    check(tmp_path, "TfIdfVectorizer", [ROWS], onnx_runtimes, mode=mode, max_skip_count=skips, ngram_indexes=indexes, **BIGRAMS)


@pytest.mark.parametrize("lengths", [(1, 1), (1, 3), (2, 3), (3, 3)])
@pytest.mark.parametrize("kind", [np.int32, np.int64, object])
def test_vectorizer_of_random_tokens(tmp_path, kind, lengths):
    random = np.random.default_rng(0)
    grams = [random.integers(0, 5, size=(12, n)) for n in (1, 2, 3)]
    grams = [np.unique(g, axis=0) for g in grams]
    pool, counts = np.concatenate([g.ravel() for g in grams]), np.cumsum([0, *(g.size for g in grams)])[:-1]
    total = sum(len(g) for g in grams)
    x = random.integers(0, 6, size=(4, 30))
    x = text(*map(str, x.ravel()), shape=x.shape) if kind is object else x.astype(kind)
    names = {"pool_strings": [str(p) for p in pool]} if kind is object else {"pool_int64s": pool.tolist()}
    settings = {"ngram_counts": counts.tolist(), "ngram_indexes": random.permutation(total).tolist(), "weights": random.random(total).tolist(), **names}
    least, most = lengths
    check(tmp_path, "TfIdfVectorizer", [x], onnx_runtimes, rtol=1e-6, mode="TFIDF", max_skip_count=3, min_gram_length=least, max_gram_length=most, **settings)


def test_vectorizer_of_nothing(tmp_path):
    settings = {"mode": "TF", "ngram_indexes": [0, 1, 2], "max_skip_count": 2**62, **BIGRAMS}
    for shape, expected in {(0,): (3,), (2, 0): (2, 3), (0, 4): (0, 3)}.items():
        check(tmp_path, "TfIdfVectorizer", [np.zeros(shape, np.int64)], [np.zeros(expected, np.float32)], **settings)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"mode": "tf"}, "mode is 'tf'"),
        ({"ngram_indexes": [0, 2**40, 1]}, "ngram_indexes holds 1099511627776"),
        ({"ngram_indexes": [0, -1, 1]}, "ngram_indexes holds -1"),
        ({"ngram_indexes": [0, 1]}, "weights for 2 ngram_indexes"),
        ({"ngram_indexes": [0, 1], "weights": None}, "more n-grams than ngram_indexes"),
        ({"ngram_counts": [0, 5]}, "ngram_counts does not ascend"),
        ({"ngram_counts": [2, 0]}, "ngram_counts does not ascend"),
        ({"ngram_counts": [-1, 2]}, "ngram_counts does not ascend"),
        ({"ngram_counts": [0, 1]}, "3 tokens for n-grams of 2"),
        ({"pool_int64s": None}, "one of pool_strings and pool_int64s"),
        ({"pool_strings": ["a"]}, "one of pool_strings and pool_int64s"),
        ({"pool_int64s": None, "pool_strings": ["a", "b", "a", "b"]}, "its n-grams are of strings"),
        ({"min_gram_length": 0}, "n-grams of 0 to 2"),
        ({"min_gram_length": 3}, "n-grams of 3 to 2"),
        ({"max_skip_count": -1}, "max_skip_count -1"),
    ],
)
def test_vectorizer_fails(tmp_path, change, why):
    settings = {"mode": "TF", "ngram_indexes": [0, 1, 2], "max_skip_count": 0, **BIGRAMS, **change}
    fails(tmp_path, "TfIdfVectorizer", [ROWS], why, **settings)
