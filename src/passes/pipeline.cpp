// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The pipeline: one round, in order. simplify.cpp repeats it until a round changes nothing.

#include "passes/pass.h"

namespace lathe::passes {
namespace {

constexpr Pass kPipeline[] = {
    // Spelling first, so that the others match one form.
    {"canonicalise", "Constant, Identity, Dropout and defaults go; constants come last in commutative ops", canonicalise},
    {"expand-compositions", "ops that are compositions of others become these", expand_compositions},
    {"quantised-products", "products of 8-bit integers become products of float32 that are exact", quantised_products},
    {"half-in-float", "nodes of float16 compute in float32", half_in_float},
    {"inline-branches", "If with a known condition becomes its branch, a Loop of few trips its body", inline_branches},
    {"hoist-invariants", "what every trip of a Loop or Scan would compute again is computed once, in front of it", hoist_invariants},
    {"growing-states", "a state of a Loop that every trip appends to becomes a scan output", growing_states},
    {"batch-scans", "a Scan whose trips do not depend on each other runs once on all slices", batch_scans},
    // What is known becomes constant; shape arithmetic dies here.
    {"known-contents", "integer tensors whose elements shape inference knows become constants", known_contents},
    {"fold", "nodes with constant inputs become constants, where that does not grow the model", fold},
    {"symbolic-targets", "computed targets of Reshape, Expand, Slice and Resize become constants that hold for every size", symbolic_targets},
    {"equal-contents", "shape tensors with equal symbolic elements are computed once", equal_contents},
    // What does nothing goes.
    {"identities", "x + 0, x * 1, --x, max(x, x), where(true, x, y), ...", identities},
    {"broadcasts", "Expand and wide constants in front of ops that broadcast by themselves", broadcasts},
    {"zero-states", "initial states of recurrent layers that are zero are left out", zero_states},
    {"no-op-moves", "Reshape, Slice, Pad, Cast, Resize, pooling, ... that change nothing", no_op_moves},
    // Chains of one kind merge.
    {"clip-chains", "Clip and Relu in a row become one", clip_chains},
    {"cast-chains", "Casts over an exact intermediate type become one", cast_chains},
    {"reshape-chains", "Reshape, Flatten, Squeeze and Unsqueeze in a row become one", reshape_chains},
    {"transpose-chains", "Transposes merge, and cancel across pointwise ops", transpose_chains},
    {"reshape-transpose", "Reshape, Transpose, Reshape that only permute become one Transpose", reshape_transpose},
    {"slice-chains", "Slices of slices become one", slice_chains},
    {"split-concat", "Split and Concat that undo each other, Concats of Concats", split_concat},
    // Work moves into weights.
    {"fold-pad", "zero padding moves into the convolution or average pool behind it", fold_pad},
    {"fold-batch-norm", "BatchNormalization moves into the convolution next to it", fold_batch_norm},
    {"fold-scale-bias", "per-channel multiplications and additions move into the weights in front", fold_scale_bias},
    // Decompositions become the op that they spell.
    {"fuse-gelu", "erf and tanh decompositions become Gelu", fuse_gelu},
    {"fuse-hard-swish", "clip(x + 3, 0, 6) / 6 becomes HardSigmoid, times x HardSwish", fuse_hard_swish},
    {"fuse-layer-norm", "mean, deviation and scale become LayerNormalization", fuse_layer_norm},
    // What is computed twice or for nothing goes.
    {"common-subexpressions", "equal constants and equal nodes are kept once", common_subexpressions},
    {"dead-code", "nodes and constants that nothing reads go", dead_code},
};

}  // namespace

std::span<const Pass> pipeline() { return kPipeline; }

}  // namespace lathe::passes
