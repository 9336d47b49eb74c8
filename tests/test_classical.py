# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""The operators of ai.onnx.ml and ai.onnx.preview.training against ONNX Runtime and the format's own implementation, and scikit-learn's
pipelines of the zoo. Where ONNX Runtime reads memory that nobody wrote, or drops a class's votes, we do not follow: see EXCEPTIONS."""

import warnings
from itertools import product
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import zoo
from ops_tool import ops_tool

ort = zoo.need("onnxruntime", "the test of ai.onnx.ml")

ML = "ai.onnx.ml"
TRANSFORMS = ["NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT"]
MODES = ["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ"]

# How many of the zoo's pipelines had all their operators defined when this line was last raised.
PIPELINES_AT_LEAST = 10

# What is not compared with ONNX Runtime, and why.
EXCEPTIONS = """
* PROBIT of one score for two classes: it writes one of the two.
* Two classes that both get votes: it gives the labels 1 and 0 whatever the labels are, and 1 wherever the second class's sum is positive.
* base_values of a target that no leaf of a row votes for: it drops them.
* base_values for two classes of which one gets votes: it adds one of them to the other class's sum.
* TreeEnsemble's post_transform 1 and 2: it takes them for LOGISTIC and SOFTMAX, the format means SOFTMAX and LOGISTIC.
"""


def elem_type(array):
    return TensorProto.STRING if array.dtype.kind in "OU" else helper.np_dtype_to_tensor_dtype(array.dtype)


def node_model(op, inputs, attrs, outputs=1, domain=ML, version=None, name="the node"):
    """One node in a model; every input's extents are free."""
    names = [f"x{i}" for i in range(len(inputs))]
    node = helper.make_node(op, names, [f"y{i}" for i in range(outputs)], domain=domain, name=name, **attrs)
    infos = [helper.make_tensor_value_info(n, elem_type(a), [f"{n}_{k}" for k in range(a.ndim)]) for n, a in zip(names, inputs, strict=True)]
    graph = helper.make_graph([node], "g", infos, [onnx.ValueInfoProto(name=f"y{i}") for i in range(outputs)])
    version = version or (3 if "Tree" in op else 2 if op == "LabelEncoder" else 1)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid(domain, version)], ir_version=8)


def session_of(model):
    """One thread: thousands of sessions live a moment each."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def by_ort(model, inputs):
    session = session_of(model)
    return session.run(None, {i.name: a for i, a in zip(session.get_inputs(), inputs, strict=True)})


def by_onnx(model, inputs):
    from onnx.reference import ReferenceEvaluator

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ReferenceEvaluator(model).run(None, {f"x{i}": a for i, a in enumerate(inputs)})


class Batch:
    """Cases that run in one process of the tool."""

    def __init__(self, folder):
        self.folder, self.cases = folder, {}

    def add(self, model, inputs, expected, rtol=1e-5, atol=1e-6):
        name = f"{len(self.cases):05}"
        self.cases[name] = (model, expected, rtol, atol)
        (self.folder / name).mkdir()
        onnx.save(model, self.folder / name / "model.onnx")
        for i, a in enumerate(inputs):
            a = np.asarray(a, dtype=object) if np.asarray(a).dtype.kind == "U" else np.asarray(a)
            (self.folder / name / f"input_{i}.pb").write_bytes(numpy_helper.from_array(a).SerializeToString())

    def check(self):
        problems, seen = [], 0
        for line in ops_tool("run-cases", self.folder):
            model, expected, rtol, atol = self.cases[line["case"]]
            seen += 1
            text = line.get("message")
            if line["status"] == "ok":
                text = "; ".join(filter(None, [*(mismatch(o, e, rtol, atol) for o, e in zip(line["outputs"], expected, strict=True)), *line["inference"]]))
            if text:
                problems.append(f"{line['case']} {describe(model)}: {text}")
        assert seen == len(self.cases)
        assert not problems, f"{len(problems)} of {seen}\n" + "\n".join(" ".join(p.split())[:600] for p in problems[:20])


def describe(model):
    """The op with its short attributes."""
    node = model.graph.node[0]
    values = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    return f"{node.op_type} { {n: v for n, v in values.items() if isinstance(v, (int, float, bytes)) or isinstance(v, list) and len(v) < 4} }"


def mismatch(output, expected, rtol, atol):
    if expected is None:
        return None
    expected = np.asarray(expected)
    if "strings" in output:
        actual = np.array(output["strings"], dtype=object).reshape(output["shape"])
        same = actual.shape == expected.shape and actual.astype(str).tolist() == expected.astype(str).tolist()
        return None if same else f"{actual.tolist()}, expected {expected.tolist()}"
    actual = np.frombuffer(Path(output["file"]).read_bytes(), helper.tensor_dtype_to_np_dtype(output["dtype"])).reshape(output["shape"])
    if actual.shape != expected.shape or actual.dtype != expected.dtype:
        return f"{actual.dtype}{actual.shape}, expected {expected.dtype}{expected.shape}"
    if actual.dtype.kind == "i":
        return None if np.array_equal(actual, expected) else f"{actual.ravel()[:20].tolist()}, expected {expected.ravel()[:20].tolist()}"
    try:
        np.testing.assert_allclose(actual, expected, rtol=rtol, atol=atol)
    except AssertionError as error:
        return str(error)
    return None


@pytest.fixture
def batch(tmp_path):
    return Batch(tmp_path)


def features(rng, rows=7, width=4, dtype=np.float32, whole=False, missing=0.0):
    x = rng.integers(-3, 4, (rows, width)) if whole else rng.normal(size=(rows, width))
    x = x.astype(dtype)
    if missing:
        x[rng.random(x.shape) < missing] = np.nan
    return x


def add_against_ort(batch, op, inputs, attrs, outputs=1, rtol=1e-5, atol=1e-6, **more):
    model = node_model(op, inputs, attrs, outputs, **more)
    batch.add(model, inputs, by_ort(model, inputs), rtol, atol)


# Features --------------------------------------------------------------------------------------------------------


def test_features(batch):
    rng = np.random.default_rng(1)
    x, row = features(rng), features(rng)[0]
    whole = features(rng, whole=True)
    for dtype, shape in product([np.float32, np.float64, np.int32, np.int64], [x, row]):
        v = (shape * 3).astype(dtype)
        for norm in ["MAX", "L1", "L2"]:
            add_against_ort(batch, "Normalizer", [v], {"norm": norm})
        add_against_ort(batch, "Scaler", [v], {"offset": [0.5], "scale": [2.0]})
        add_against_ort(batch, "Scaler", [v], {"offset": [0.5, -1.0, 2.0, 0.0], "scale": [2.0, -1.0, 0.25, 3.0]})
    add_against_ort(batch, "Normalizer", [np.zeros((2, 3), np.float32)], {"norm": "L2"})
    add_against_ort(batch, "Binarizer", [x], {"threshold": 0.25})
    for dtype in [np.float64, np.int32, np.int64]:
        model = node_model("Binarizer", [whole.astype(dtype)], {"threshold": 0.5})
        batch.add(model, [whole.astype(dtype)], [(whole > 0.5).astype(dtype)])
    gaps = features(rng, missing=0.3)
    for fill in [[7.0], [1.0, 2.0, 3.0, 4.0]]:
        add_against_ort(batch, "Imputer", [gaps], {"imputed_value_floats": fill, "replaced_value_float": float("nan")})
        add_against_ort(batch, "Imputer", [whole.astype(np.float32)], {"imputed_value_floats": fill, "replaced_value_float": 2.0})
        add_against_ort(batch, "Imputer", [whole.astype(np.int64)], {"imputed_value_int64s": [int(f) for f in fill], "replaced_value_int64": -1})
        for dtype, attrs in [
            (np.float64, {"imputed_value_floats": fill, "replaced_value_float": 2.0}),
            (np.int32, {"imputed_value_int64s": [int(f) for f in fill], "replaced_value_int64": 2}),
        ]:
            v = whole.astype(dtype)
            model = node_model("Imputer", [v], attrs)
            batch.add(model, [v], by_onnx(model, [v]))
    for y in [[1], [0, 3, 1], [[2, 0]], [[0, 1], [1, 3]]]:
        index = np.array(y, np.int64)
        for v in [
            x,
            row,
            x.astype(np.float64),
            whole.astype(np.int32),
            whole.astype(np.int64),
            x.astype(str).astype(object),
            features(rng, 6).reshape(3, 2, 4),
        ]:
            add_against_ort(batch, "ArrayFeatureExtractor", [v, index], {})
    for dims in [[4, 4], [2, 5], [1, 1]]:
        add_against_ort(batch, "FeatureVectorizer", [x, whole.astype(np.float32)], {"inputdimensions": dims})
        add_against_ort(batch, "FeatureVectorizer", [row, row], {"inputdimensions": dims})
        add_against_ort(batch, "FeatureVectorizer", [whole.astype(np.int64), whole.astype(np.int64)], {"inputdimensions": dims})
    batch.check()


# Encoders --------------------------------------------------------------------------------------------------------


def test_encoders(batch):
    rng = np.random.default_rng(2)
    words = np.array([["b", "a"], ["zz", "c"], ["", "a"]], object)
    numbers = rng.integers(0, 6, (3, 4))
    categories = {"cats_int64s": [4, 1, 0, 9]}
    for v in [numbers, numbers[0], numbers.astype(np.float32) + 0.75, numbers.astype(np.float64)]:
        add_against_ort(batch, "OneHotEncoder", [v], categories)
    narrow = numbers.astype(np.int32)
    batch.add(node_model("OneHotEncoder", [narrow], categories), [narrow], by_ort(node_model("OneHotEncoder", [numbers], categories), [numbers]))
    add_against_ort(batch, "OneHotEncoder", [words], {"cats_strings": ["a", "b", "c", "a"]})
    add_against_ort(batch, "OneHotEncoder", [np.array(["a"], object)], {"cats_strings": ["a"], "zeros": 0})
    add_against_ort(batch, "CategoryMapper", [words], {"cats_strings": ["a", "b", "a"], "cats_int64s": [5, 6, 7], "default_int64": -4})
    add_against_ort(batch, "CategoryMapper", [numbers], {"cats_strings": ["a", "b"], "cats_int64s": [5, 2], "default_string": "none"})
    add_against_ort(batch, "LabelEncoder", [words], {"classes_strings": ["a", "b"], "default_int64": 9}, version=1)
    add_against_ort(batch, "LabelEncoder", [numbers], {"classes_strings": ["a", "b"], "default_string": "?"}, version=1)
    lists = {
        "int64s": ([1, 3, 4], np.int64),
        "floats": ([1.0, 3.5, -0.0], np.float32),
        "strings": (["a", "b", ""], object),
    }
    given = {"int64s": numbers, "floats": np.array([[3.5, 0.0], [1.0, 2.0]], np.float32), "strings": words}
    for (key, (keys, _)), (value, (values, _)) in product(lists.items(), lists.items()):
        attrs = {f"keys_{key}": keys, f"values_{value}": values}
        add_against_ort(batch, "LabelEncoder", [given[key]], attrs)
        add_against_ort(batch, "LabelEncoder", [given[key]], {**attrs, "default_int64": 7, "default_float": 2.5, "default_string": "x"})
        add_against_ort(batch, "LabelEncoder", [given[key]], attrs, version=4)
    # Of equal keys the first counts up to version 3, then the last.
    add_against_ort(batch, "LabelEncoder", [numbers], {"keys_int64s": [1, 2, 1], "values_int64s": [10, 20, 30]}, version=2)
    for version, value in [(2, 10), (4, 30)]:
        model = node_model("LabelEncoder", [np.array([1, 2])], {"keys_int64s": [1, 2, 1], "values_int64s": [10, 20, 30]}, version=version)
        batch.add(model, [np.array([1, 2])], [np.array([value, 20])])
    arrays = {np.int16: [1, 3, 5], np.int32: [1, 3, 5], np.int64: [1, 3, 5], np.float32: [1.0, np.nan, -3.5], np.float64: [1.0, np.nan, 0.1]}
    for (kt, keys), (vt, values) in product(arrays.items(), arrays.items()):
        attrs = {"keys_tensor": numpy_helper.from_array(np.array(keys, kt)), "values_tensor": numpy_helper.from_array(np.array(values, vt))}
        attrs["default_tensor"] = numpy_helper.from_array(np.array([42], vt))
        x = np.array([keys[0], keys[1], 77, keys[2]], kt)
        batch.add(node_model("LabelEncoder", [x], attrs, version=4), [x], [np.array([values[0], values[1], 42, values[2]], vt)])
        del attrs["default_tensor"]
        default = -1 if np.issubdtype(vt, np.integer) else -0.0
        batch.add(node_model("LabelEncoder", [x], attrs, version=4), [x], [np.array([values[0], values[1], default, values[2]], vt)])
    batch.check()


# Linear models and support vectors -------------------------------------------------------------------------------


def test_linear(batch):
    rng = np.random.default_rng(3)
    for transform, dtype, targets in product(TRANSFORMS, [np.float32, np.float64, np.int32, np.int64], [1, 2, 3]):
        x = features(rng, dtype=dtype, whole=dtype in (np.int32, np.int64))
        probit = transform == "PROBIT"
        scale = 0.02 if probit else 1.0  # keeps scores within (0, 1)
        attrs = {
            "coefficients": (rng.normal(size=4 * targets) * scale).tolist(),
            "intercepts": (rng.normal(size=targets) * scale + 0.3 * probit).tolist(),
            "post_transform": transform,
        }
        close = {"rtol": 1e-3, "atol": 1e-4} if probit else {}
        if dtype == np.float32:
            add_against_ort(batch, "LinearRegressor", [x], {**attrs, "targets": targets}, **close)
            add_against_ort(batch, "LinearRegressor", [x[0]], {**attrs, "targets": targets}, **close)
        if targets > 1:
            add_against_ort(batch, "LinearClassifier", [x], {**attrs, "classlabels_ints": list(range(10, 10 + targets))}, 2, **close)
            add_against_ort(batch, "LinearClassifier", [x], {**attrs, "classlabels_strings": list("abc")[:targets]}, 2, **close)
        elif not probit:
            add_against_ort(batch, "LinearClassifier", [x], {**attrs, "classlabels_ints": [4, 9]}, 2)
            add_against_ort(batch, "LinearClassifier", [x], {**attrs, "classlabels_strings": ["a", "b"]}, 2)
    batch.check()


def test_support_vectors(batch):
    rng = np.random.default_rng(4)
    for transform, kernel, dtype in product(TRANSFORMS, ["LINEAR", "POLY", "RBF", "SIGMOID"], [np.float32, np.float64, np.int64]):
        x = features(rng, dtype=dtype, whole=dtype == np.int64)
        common = {"kernel_type": kernel, "kernel_params": [0.1, 0.5, 2.0], "post_transform": transform}
        close = {"rtol": 1e-3, "atol": 1e-4} if transform == "PROBIT" else {"rtol": 1e-4, "atol": 1e-5}
        if dtype == np.float32:
            vectors = rng.normal(size=5 * 4).tolist()
            attrs = {**common, "coefficients": rng.normal(size=5).tolist(), "support_vectors": vectors, "rho": [0.2], "n_supports": 5}
            add_against_ort(batch, "SVMRegressor", [x], attrs, **close)
            add_against_ort(batch, "SVMRegressor", [x], {**attrs, "one_class": 1}, **close)
            add_against_ort(batch, "SVMRegressor", [x], {**common, "coefficients": rng.normal(size=4).tolist(), "rho": [0.2]}, **close)
        for classes, probable in product([2, 3, 4], [False, True]):
            per_class = rng.integers(1, 4, classes).tolist()
            count, pairs = sum(per_class), classes * (classes - 1) // 2
            attrs = {
                **common,
                "coefficients": rng.normal(size=(classes - 1) * count).tolist(),
                "support_vectors": rng.normal(size=count * 4).tolist(),
                "vectors_per_class": per_class,
                "rho": rng.normal(size=pairs).tolist(),
                "classlabels_ints": (rng.permutation(classes) + 5).tolist(),
            }
            if probable:
                slope = 0.05 if transform == "PROBIT" else 1.0  # quantiles near 0 and 1 are nobody's
                attrs |= {"prob_a": (-slope * (rng.random(pairs) + 0.5)).tolist(), "prob_b": rng.normal(size=pairs).tolist()}
            if transform == "PROBIT" and not probable:
                continue  # scores beyond (0, 1), or one of two: see EXCEPTIONS
            if kernel == "POLY" and dtype == np.int64 and not probable and transform.startswith("SOFTMAX"):
                continue  # exponentials of large scores: float32 differs
            add_against_ort(batch, "SVMClassifier", [x], attrs, 2, **close)
            if transform == "NONE":
                del attrs["classlabels_ints"]
                add_against_ort(batch, "SVMClassifier", [x], {**attrs, "classlabels_strings": list("pqrs")[:classes]}, 2, **close)
        for classes in [2, 3]:
            attrs = {**common, "coefficients": rng.normal(size=classes * 4).tolist(), "rho": [0.1], "classlabels_ints": list(range(classes))}
            if transform != "PROBIT":
                add_against_ort(batch, "SVMClassifier", [x], attrs, 2, **close)
                add_against_ort(batch, "SVMClassifier", [x], {**attrs, "coefficients": np.abs(attrs["coefficients"]).tolist()}, 2, **close)
    batch.check()


# Trees -----------------------------------------------------------------------------------------------------------


def random_trees(rng, trees, width, depth, modes, missing, whole):
    """The nodes_* lists of a random ensemble, and its leaves as (tree, node)."""
    nodes = {k: [] for k in ["treeids", "nodeids", "featureids", "modes", "values", "truenodeids", "falsenodeids", "missing_value_tracks_true"]}
    leaves = []
    for tree in range(trees):
        rows = []

        def grow(level, tree=tree, rows=rows):
            at = len(rows)
            rows.append(None)
            if level == depth or (level > 0 and rng.random() < 0.2):
                rows[at] = (0, "LEAF", 0.0, 0, 0, 0)
                leaves.append((tree, at))
            else:
                value = float(rng.integers(-3, 4)) if whole else float(np.float32(rng.normal()))
                feature, mode = int(rng.integers(width)), str(rng.choice(modes))
                yes = grow(level + 1)
                no = grow(level + 1)
                rows[at] = (feature, mode, value, yes, no, int(rng.random() < 0.5) if missing else 0)
            return at

        grow(0)
        for at, (feature, mode, value, yes, no, tracks) in enumerate(rows):
            for key, v in zip(nodes, [tree, at, feature, mode, value, yes, no, tracks], strict=True):
                nodes[key].append(v)
    if not missing:
        del nodes["missing_value_tracks_true"]
    return {f"nodes_{k}": v for k, v in nodes.items()}, leaves


def votes(rng, leaves, targets, prefix, low=-1.0, single=None, many=False, every=False):
    rows = []
    for tree, node in leaves:
        count = targets if every else int(rng.integers(1, targets + 1)) if many else 1
        chosen = [single] if single is not None else rng.permutation(targets)[:count]
        rows += [(tree, node, int(t), float(np.float32(rng.uniform(low, 1.0)))) for t in sorted(chosen)]
    return {f"{prefix}_{k}": [r[i] for r in rows] for i, k in enumerate(["treeids", "nodeids", "ids", "weights"])}


def as_double(attrs, prefix, rng):
    """The lists of floats as tensors of doubles that no float32 holds."""
    out = dict(attrs)
    for name in ["nodes_values", f"{prefix}_weights", "base_values"]:
        if name in out:
            values = np.array(out.pop(name), np.float64)
            out[f"{name}_as_tensor"] = numpy_helper.from_array(values * (1 + 1e-12 * rng.normal(size=values.shape)), f"{name}_as_tensor")
    return out


def ensembles(seed):
    """(attributes of the nodes, leaves, features) over modes, missing values and types."""
    rng = np.random.default_rng(seed)
    for modes, missing, dtype in product([["BRANCH_LEQ"], ["BRANCH_LT", "BRANCH_GTE"], MODES], [False, True], [np.float32, np.float64, np.int64, np.int32]):
        integers = dtype in (np.int64, np.int32)
        whole = integers or len(modes) > 2
        nodes, leaves = random_trees(rng, int(rng.integers(1, 12)), 5, int(rng.integers(1, 6)), modes, missing, whole)
        x = features(rng, 23, 5, dtype, whole, 0.2 if missing and not integers else 0.0)
        yield rng, nodes, leaves, x


def add_regressor(batch, x, attrs):
    """ONNX Runtime has none for whole numbers: it gets them as floats."""
    given = x if x.dtype.kind == "f" else x.astype(np.float32)
    expected = by_ort(node_model("TreeEnsembleRegressor", [given], attrs), [given])
    batch.add(node_model("TreeEnsembleRegressor", [x], attrs), [x], expected)


def test_tree_regressors(batch):
    for rng, nodes, leaves, x in ensembles(5):
        for targets, aggregate, based in product([1, 3], ["SUM", "AVERAGE", "MIN", "MAX"], [False, True]):
            attrs = {**nodes, **votes(rng, leaves, targets, "target", many=targets > 1, every=based), "n_targets": targets, "aggregate_function": aggregate}
            if based:
                attrs["base_values"] = rng.normal(size=targets).astype(np.float32).tolist()
            add_regressor(batch, x, attrs)
            if x.dtype == np.float64:
                add_against_ort(batch, "TreeEnsembleRegressor", [x], as_double(attrs, "target", rng))
            for transform in TRANSFORMS[1:] if aggregate == "SUM" else []:
                if transform != "PROBIT":
                    add_regressor(batch, x, {**attrs, "post_transform": transform})
    batch.check()


def test_tree_classifiers(batch):
    for rng, nodes, leaves, x in ensembles(6):
        for transform, based in product(TRANSFORMS, [False, True]):
            attrs = {**nodes, **votes(rng, leaves, 4, "class", many=True), "classlabels_int64s": [7, 3, 12, 5], "post_transform": transform}
            if based:
                attrs["base_values"] = rng.normal(size=4).astype(np.float32).tolist()
            close = {"rtol": 2e-2, "atol": 1e-3} if transform == "PROBIT" else {}
            add_against_ort(batch, "TreeEnsembleClassifier", [x], attrs, 2, **close)
            if x.dtype == np.float64:
                add_against_ort(batch, "TreeEnsembleClassifier", [x], as_double(attrs, "class", rng), 2, **close)
            if transform == "NONE":
                del attrs["classlabels_int64s"]
                add_against_ort(batch, "TreeEnsembleClassifier", [x], {**attrs, "classlabels_strings": ["a", "", "c", "b"]}, 2)
            if transform == "PROBIT":
                continue
            for low in [0.0, -1.0]:  # whether all weights are positive decides how one score is read
                attrs = {**nodes, **votes(rng, leaves, 2, "class", low, single=0), "post_transform": transform}
                if based:
                    attrs["base_values"] = [0.125]
                add_against_ort(batch, "TreeEnsembleClassifier", [x], {**attrs, "classlabels_int64s": [4, 8]}, 2)
                add_against_ort(batch, "TreeEnsembleClassifier", [x], {**attrs, "classlabels_strings": ["no", "yes"]}, 2)
                if not based:
                    attrs = {**nodes, **votes(rng, leaves, 2, "class", low, single=1), "post_transform": transform}
                    add_against_ort(batch, "TreeEnsembleClassifier", [x], {**attrs, "classlabels_int64s": [4, 8]}, 2)
                    attrs = {**nodes, **votes(rng, leaves, 1, "class", low), "post_transform": transform}
                    add_against_ort(batch, "TreeEnsembleClassifier", [x], {**attrs, "classlabels_int64s": [1]}, 2)
    batch.check()


def test_two_classes_that_both_get_votes(batch):
    """Here ONNX Runtime's labels are not those of the model; the scores are, and the best one tells the label."""
    for rng, nodes, leaves, x in ensembles(7):
        attrs = {**nodes, **votes(rng, leaves, 2, "class", every=True), "classlabels_int64s": [6, 2]}
        model = node_model("TreeEnsembleClassifier", [x], attrs, 2)
        scores = by_ort(model, [x])[1]
        batch.add(model, [x], [None, scores])
        three = {**attrs, "classlabels_int64s": [6, 2, 99]}
        label = by_ort(node_model("TreeEnsembleClassifier", [x], three, 2), [x])[0]
        batch.add(model, [x], [label, scores])
    batch.check()


def tree_ensemble_attrs(rng, dtype, targets, missing, members):
    """A random TreeEnsemble of version 5."""
    nodes, leaves, member_sets, roots = [], [], [], []

    def grow(level):
        if level == 4 or (level > 0 and rng.random() < 0.2):
            leaves.append((int(rng.integers(targets)), rng.uniform(-1, 1)))
            return len(leaves) - 1, 1
        at = len(nodes)
        nodes.append(None)
        mode = int(rng.integers(7 if members else 6))
        yes, yes_leaf = grow(level + 1)
        no, no_leaf = grow(level + 1)
        nodes[at] = (int(rng.integers(5)), mode, float(rng.integers(-3, 4)), yes, yes_leaf, no, no_leaf, int(rng.random() < 0.5))
        return at, 0

    for _ in range(6):
        roots.append(grow(0)[0])
    for node in nodes:
        if node[1] == 6:
            member_sets += [*rng.choice(np.arange(1, 8), int(rng.integers(1, 4)), replace=False).tolist(), np.nan]
    columns = list(zip(*nodes, strict=True))
    tensor = lambda name, v, t: numpy_helper.from_array(np.array(v, t), name)  # noqa: E731
    attrs = {
        "nodes_featureids": list(columns[0]),
        "nodes_modes": tensor("nodes_modes", columns[1], np.uint8),
        "nodes_splits": tensor("nodes_splits", columns[2], dtype),
        "nodes_truenodeids": list(columns[3]),
        "nodes_trueleafs": list(columns[4]),
        "nodes_falsenodeids": list(columns[5]),
        "nodes_falseleafs": list(columns[6]),
        "leaf_targetids": [leaf[0] for leaf in leaves],
        "leaf_weights": tensor("leaf_weights", [leaf[1] for leaf in leaves], dtype),
        "tree_roots": roots,
        "n_targets": targets,
    }
    if missing:
        attrs["nodes_missing_value_tracks_true"] = list(columns[7])
    if member_sets:
        attrs["membership_values"] = tensor("membership_values", member_sets, dtype)
    return attrs


def test_tree_ensembles(batch):
    rng = np.random.default_rng(8)
    for dtype, targets, missing, members in product([np.float32, np.float64], [1, 3], [False, True], [False, True]):
        x = features(rng, 23, 5, dtype, True, 0.2 if missing else 0.0)
        x[rng.random(x.shape) < 0.3] += 4
        for aggregate, transform in [(0, 0), (1, 0), (2, 0), (3, 0), (1, 1), (1, 2), (1, 3)]:
            attrs = tree_ensemble_attrs(rng, dtype, targets, missing, members)
            attrs |= {"aggregate_function": aggregate, "post_transform": transform}
            theirs = {**attrs, "post_transform": [0, 2, 1, 3][transform]}
            expected = by_ort(node_model("TreeEnsemble", [x], theirs, version=5), [x])
            batch.add(node_model("TreeEnsemble", [x], attrs, version=5), [x], expected)
            if dtype == np.float32 and not transform and aggregate == 1 and not missing and not members:
                splits, weights = (numpy_helper.to_array(attrs[n]) for n in ["nodes_splits", "leaf_weights"])
                as_type = lambda t: {  # noqa: E731
                    **attrs,  # noqa: B023
                    "nodes_splits": numpy_helper.from_array(splits.astype(t)),  # noqa: B023
                    "leaf_weights": numpy_helper.from_array(np.round(weights * 8).astype(t)),  # noqa: B023
                }
                halves = as_type(np.float16)
                expected = by_ort(node_model("TreeEnsemble", [x], as_type(np.float32), version=5), [x])[0].astype(np.float16)
                half = x.astype(np.float16)
                batch.add(node_model("TreeEnsemble", [half], halves, version=5), [half], [expected])
    batch.check()


# Training --------------------------------------------------------------------------------------------------------


def test_optimisers(batch):
    rng = np.random.default_rng(9)
    domain = "ai.onnx.preview.training"
    for dtype, count, tensors in product([np.float32, np.float64], [0, 1, 7], [1, 3]):
        shapes = [(3, 2), (4,), ()][:tensors]

        def inputs(states, dtype=dtype, count=count, shapes=shapes):
            lists = [[rng.normal(size=s).astype(dtype) for s in shapes] for _ in range(states + 1)]
            lists[-1] = [np.abs(a) for a in lists[-1]]
            return [np.array(0.1, np.float32), np.array(count, np.int64), *(a for group in lists for a in group)]

        for op, states, attrs in [
            ("Adagrad", 2, {"norm_coefficient": 0.001, "epsilon": 1e-5, "decay_factor": 0.1}),
            ("Adagrad", 2, {}),
            ("Adam", 3, {"alpha": 0.95, "beta": 0.1, "norm_coefficient": 0.001, "norm_coefficient_post": 0.01}),
            ("Adam", 3, {}),
            ("Momentum", 2, {"norm_coefficient": 0.001, "alpha": 0.95, "beta": 0.1, "mode": "standard"}),
            ("Momentum", 2, {"norm_coefficient": 0.01, "alpha": 0.95, "beta": 1.0, "mode": "nesterov"}),
        ]:
            given = inputs(states)
            model = node_model(op, given, attrs, outputs=tensors * states, domain=domain, version=1)
            expected = [np.asarray(e).astype(dtype) for e in by_onnx(model, given)]
            batch.add(model, given, expected, rtol=1e-4, atol=1e-5)
    batch.check()


# Errors ----------------------------------------------------------------------------------------------------------

STUMP = {
    "nodes_treeids": [0, 0, 0],
    "nodes_nodeids": [0, 1, 2],
    "nodes_featureids": [1, 0, 0],
    "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"],
    "nodes_values": [0.5, 0.0, 0.0],
    "nodes_truenodeids": [1, 0, 0],
    "nodes_falsenodeids": [2, 0, 0],
}
CLASSES = {"class_treeids": [0, 0], "class_nodeids": [1, 2], "class_ids": [0, 1], "class_weights": [1.0, 1.0], "classlabels_int64s": [0, 1]}
TARGETS = {"target_treeids": [0, 0], "target_nodeids": [1, 2], "target_ids": [0, 0], "target_weights": [1.0, 2.0], "n_targets": 1}
LOOP = {**STUMP, "nodes_modes": ["BRANCH_LEQ", "BRANCH_LT", "LEAF"], "nodes_truenodeids": [1, 0, 0], "nodes_falsenodeids": [2, 2, 0]}
ENSEMBLE = {
    "nodes_featureids": [0],
    "nodes_modes": numpy_helper.from_array(np.array([0], np.uint8)),
    "nodes_splits": numpy_helper.from_array(np.array([0.5], np.float32)),
    "nodes_truenodeids": [0],
    "nodes_trueleafs": [1],
    "nodes_falsenodeids": [1],
    "nodes_falseleafs": [1],
    "leaf_targetids": [0, 0],
    "leaf_weights": numpy_helper.from_array(np.array([1.0, 2.0], np.float32)),
    "tree_roots": [0],
    "n_targets": 1,
}
LINEAR = {"coefficients": [1.0, 2.0], "classlabels_ints": [0, 1], "intercepts": [0.5]}
SVC = {
    "coefficients": [1.0, -1.0],
    "support_vectors": [0.0, 1.0, 1.0, 0.0],
    "vectors_per_class": [1, 1],
    "rho": [0.1],
    "classlabels_ints": [0, 1],
    "kernel_params": [1.0, 0.0, 1.0],
}

CORRUPT = [
    ("TreeEnsembleClassifier", {**LOOP, **CLASSES}, "node 1 of tree 0 leads back to node 0 of tree 0: the tree has a cycle"),
    ("TreeEnsembleClassifier", {**STUMP, **CLASSES, "nodes_truenodeids": [0, 0, 0]}, "node 0 of tree 0 leads back to node 0 of tree 0: the tree has a cycle"),
    ("TreeEnsembleClassifier", {**STUMP, **CLASSES, "nodes_falsenodeids": [9, 0, 0]}, "node 0 of tree 0 branches to node 9, which the tree does not have"),
    ("TreeEnsembleClassifier", {**STUMP, **CLASSES, "nodes_values": [0.5, 0.0]}, "nodes_values has 2 entries; expected 3, as nodes_nodeids"),
    ("TreeEnsembleClassifier", {**STUMP, **CLASSES, "nodes_nodeids": [0, 1, 1]}, "node 1 of tree 0 is listed twice"),
    ("TreeEnsembleClassifier", {**STUMP, **CLASSES, "nodes_modes": ["BRANCH", "LEAF", "LEAF"]}, "node 0 of tree 0 has the unknown mode 'BRANCH'"),
    ("TreeEnsembleClassifier", {**STUMP, **CLASSES, "nodes_featureids": [-1, 0, 0]}, "node 0 of tree 0 tests feature -1"),
    ("TreeEnsembleClassifier", {**STUMP, **CLASSES, "nodes_featureids": [7, 0, 0]}, "a node tests feature 7, but X has 2 features"),
    ("TreeEnsembleClassifier", {**STUMP, **CLASSES, "class_ids": [0, 2]}, "class_ids has the entry 2; expected 0 to 1"),
    ("TreeEnsembleClassifier", {**STUMP, **CLASSES, "class_nodeids": [1, 5]}, "class_nodeids names node 5 of tree 0, which is not there"),
    ("TreeEnsembleClassifier", {**STUMP, **CLASSES, "class_weights": [1.0]}, "class_weights has 1 entries; expected 2, as class_ids"),
    ("TreeEnsembleClassifier", {**STUMP, **CLASSES, "base_values": [1.0, 2.0, 3.0]}, "base_values has 3 entries; expected 2, one for each class"),
    ("TreeEnsembleClassifier", {**STUMP, **CLASSES, "classlabels_strings": ["a", "b"]}, "gives both classlabels_int64s and classlabels_strings"),
    ("TreeEnsembleClassifier", {**STUMP, **CLASSES, "post_transform": "LOG"}, "post_transform 'LOG' is none of NONE, SOFTMAX, LOGISTIC"),
    ("TreeEnsembleClassifier", CLASSES, "has no nodes: nodes_nodeids is empty"),
    ("TreeEnsembleRegressor", {**STUMP, **TARGETS, "n_targets": 2**62}, "n_targets is 4611686018427387904; expected 1 to 16777216"),
    ("TreeEnsembleRegressor", {**STUMP, **TARGETS, "n_targets": -1}, "n_targets is -1; expected 1 to 16777216"),
    ("TreeEnsembleRegressor", {**STUMP, **TARGETS, "aggregate_function": "MEAN"}, "aggregate_function 'MEAN' is none of AVERAGE, SUM, MIN, MAX"),
    ("TreeEnsemble", {**ENSEMBLE, "nodes_truenodeids": [2]}, "node 0 branches to leaf 2 (nodes_truenodeids); there are 2"),
    ("TreeEnsemble", {**ENSEMBLE, "nodes_trueleafs": [0]}, "node 0 leads back to node 0: the tree has a cycle"),
    ("TreeEnsemble", {**ENSEMBLE, "tree_roots": [3]}, "tree_roots has the entry 3; there are 1 nodes"),
    ("TreeEnsemble", {**ENSEMBLE, "leaf_targetids": [0, 1]}, "leaf_targetids has the entry 1; expected 0 to 0"),
    ("TreeEnsemble", {**ENSEMBLE, "nodes_falseleafs": [1, 1]}, "nodes_falseleafs has 2 entries; expected 1, as nodes_featureids"),
    ("TreeEnsemble", {**ENSEMBLE, "nodes_modes": numpy_helper.from_array(np.array([9], np.uint8))}, "node 0 has the unknown mode 9"),
    ("TreeEnsemble", {**ENSEMBLE, "nodes_modes": numpy_helper.from_array(np.array([6], np.uint8))}, "membership_values has fewer sets than there are nodes"),
    ("LinearClassifier", {**LINEAR, "coefficients": [1.0, 2.0, 3.0]}, "X has 2 features, its coefficients are for 3"),
    ("LinearClassifier", {**LINEAR, "intercepts": [1.0, 2.0, 3.0]}, "has 3 intercepts for 2 class labels"),
    ("LinearRegressor", {"coefficients": [1.0, 2.0], "targets": 0}, "0 targets; expected 1 to 16777216"),
    ("LinearRegressor", {"coefficients": [1.0, 2.0], "targets": 3}, "coefficients has 2 entries; expected as many for each of 3 targets"),
    ("SVMClassifier", {k: v for k, v in SVC.items() if k != "rho"}, "rho has 0 entries; expected 1"),
    ("SVMClassifier", {**SVC, "vectors_per_class": [2, -1]}, "vectors_per_class has the entry -1"),
    ("SVMClassifier", {**SVC, "vectors_per_class": [2**62, 2**62]}, "vectors_per_class has the entry"),
    ("SVMClassifier", {**SVC, "support_vectors": [1.0]}, "support_vectors has 1 entries; expected as many for each of 2 vectors"),
    ("SVMClassifier", {**SVC, "kernel_type": "COSINE"}, "kernel_type 'COSINE' is none of LINEAR, POLY, RBF, SIGMOID"),
    ("SVMClassifier", {**SVC, "prob_a": [1.0]}, "prob_b has 0 entries; expected 1, as prob_a"),
    ("SVMRegressor", {"coefficients": [1.0], "rho": [0.0], "n_supports": 2**40}, "coefficients has 1 entries; expected 1099511627776, n_supports"),
    ("LabelEncoder", {"keys_floats": [1.0, 2.0], "values_int64s": [1]}, "has 2 keys and 1 values"),
    ("LabelEncoder", {"keys_floats": [1.0], "keys_int64s": [1], "values_int64s": [1]}, "gives 2 of keys_tensor, keys_int64s"),
    ("LabelEncoder", {"keys_int64s": [1], "values_int64s": [1]}, "X has type float, its keys int64"),
    ("OneHotEncoder", {"cats_strings": ["a"]}, "X has type float, its categories are strings"),
    ("Scaler", {"offset": [1.0, 2.0, 3.0], "scale": [1.0, 2.0, 3.0]}, "offset has 3 entries; expected 1, or one for each of X's 2 features"),
    ("Imputer", {"imputed_value_int64s": [1]}, "lacks imputed_value_floats, which input of type float needs"),
    ("Normalizer", {"norm": "L3"}, "norm 'L3' is none of MAX, L1, L2"),
    ("FeatureVectorizer", {"inputdimensions": [2**62]}, "inputdimensions has the entry 4611686018427387904; expected 0 to 2147483648"),
    ("FeatureVectorizer", {"inputdimensions": [-2]}, "inputdimensions has the entry -2; expected 0 to 2147483648"),
    ("ZipMap", {"classlabels_int64s": [1]}, "X has 2 columns for 1 keys"),
]


@pytest.mark.parametrize("case", range(len(CORRUPT)))
def test_corrupt_attributes(tmp_path, case):
    """Each gives one clear error that names the node, and no other end."""
    op, attrs, text = CORRUPT[case]
    x = np.ones((3, 2), np.float32)
    outputs = 2 if "Classifier" in op else 1
    (tmp_path / "case").mkdir()
    onnx.save(node_model(op, [x], attrs, outputs, version=5 if op == "TreeEnsemble" else None), tmp_path / "case" / "model.onnx")
    (tmp_path / "case" / "input_0.pb").write_bytes(numpy_helper.from_array(x).SerializeToString())
    line = ops_tool("run-cases", tmp_path)[0]
    assert line["status"] == "error", line
    assert text in line["message"], line["message"]
    assert "the node" in line["message"], line["message"]


def test_corrupt_training(tmp_path):
    one = np.ones((2,), np.float32)
    step = [np.float32(0.1), np.int64(1)]
    momentum = {"norm_coefficient": 0.0, "alpha": 0.9, "beta": 1.0, "mode": "standard"}
    cases = [
        (
            "Gradient",
            [one, one],
            {"xs": ["a"], "zs": ["b"], "y": "loss"},
            "its attribute xs names 'a', but no tensor has that name",
        ),
        ("Gradient", [one, one], {"xs": ["a"], "y": "loss"}, "has 2 inputs; expected one for each of its 1 xs and zs"),
        ("Adam", [*step, one, one], {}, "has 4 inputs; expected R, T and 4 for each tensor"),
        ("Adagrad", [*step, one, one, one[:1]], {}, "input 4 has another shape than its tensor"),
        ("Momentum", [*step, one, one, one], {**momentum, "mode": "fast"}, "mode 'fast' is none of standard, nesterov"),
        ("Momentum", [np.ones(2, np.float32), step[1], one, one, one], momentum, "R has 2 elements; expected one"),
    ]
    for i, (op, inputs, attrs, _) in enumerate(cases):
        (tmp_path / str(i)).mkdir()
        inputs = [np.asarray(a) for a in inputs]
        onnx.save(node_model(op, inputs, attrs, domain="ai.onnx.preview.training", version=1), tmp_path / str(i) / "model.onnx")
        for k, a in enumerate(inputs):
            (tmp_path / str(i) / f"input_{k}.pb").write_bytes(numpy_helper.from_array(a).SerializeToString())
    lines = ops_tool("run-cases", tmp_path)
    assert [line["status"] for line in lines] == ["error"] * len(cases), lines
    for line, (_, _, _, text) in zip(lines, cases, strict=True):
        assert text in line["message"], line["message"]
        assert "the node" in line["message"], line["message"]


# The zoo ---------------------------------------------------------------------------------------------------------


def zoo_inputs(session, rng):
    given = []
    for i in session.get_inputs():
        shape = [d if isinstance(d, int) else 57 for d in i.shape]
        if i.type == "tensor(string)":
            given.append(np.array([f"w{k}" for k in rng.integers(0, 250, int(np.prod(shape)))], object).reshape(shape))
        else:
            given.append(rng.normal(size=shape).astype(np.float32))
    return given


def test_pipelines(tmp_path):
    rng = np.random.default_rng(10)
    batch = Batch(tmp_path)
    defined = {(op["domain"], op["name"]) for op in ops_tool("schemas")[0]}
    for name in (n for n in zoo.names() if n.startswith("skl_")):
        model = onnx.load(zoo.filled(name))
        if any((n.domain, n.op_type) not in defined for n in model.graph.node):
            continue
        session = session_of(model)
        given = zoo_inputs(session, rng)
        batch.add(model, given, session.run(None, dict(zip([i.name for i in session.get_inputs()], given, strict=True))), rtol=1e-4, atol=1e-5)
    assert len(batch.cases) >= PIPELINES_AT_LEAST, len(batch.cases)
    batch.check()
