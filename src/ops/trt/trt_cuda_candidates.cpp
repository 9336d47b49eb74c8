// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// "cuda.trt_nms": TensorRT's NMS plugins, by sorts and a block for each image or class.

#include "ops/expand_util.h"
#include "ops/node_descs.h"
#include "ops/trt/trt_nms_plan.h"
#include "regions/cuda_params.h"

namespace lathe::ops {
namespace {

bool is_efficient(const ir::Node& node) { return node.op == "EfficientNMS_TRT"; }

Verdict supports(const PlanRequest& request) {
  const ir::Node& node = *request.region.nodes.front();
  const auto inputs = node_input_descs<kTrtNmsInputs>(request);
  const auto outputs = node_output_descs<kTrtNmsOutputs>(request);
  for (const auto* desc : {&inputs[0], &inputs[1], &inputs[2], &outputs[1], &outputs[2]})
    if (desc->dtype != DType::kUndefined && !regions::cuda_element(desc->dtype)) return Verdict::decline(std::string(regions::kNoCudaElement));
  if (!is_efficient(node) && outputs[3].dtype != DType::kUndefined && !regions::cuda_element(outputs[3].dtype))
    return Verdict::decline(std::string(regions::kNoCudaElement));
  if (const auto& scores = inputs[1].dims; scores.size() == 3 && node.attrs.get_int("numClasses", scores[2]) != scores[2])
    return Verdict::decline("another number of classes than the attribute says");
  TrtNmsPlan plan;
  std::string why;
  if (!trt_nms_plan(inputs, outputs, TrtNmsHow(node.attrs, is_efficient(node)), plan, why)) return Verdict::decline(why);
  const auto& device = regions::need_device(request.device);
  return device.has_builtin_module("trt_nms") && device.has_builtin_module("topk") ? Verdict::accept() : Verdict::decline("this build has no such kernel");
}

std::vector<StepPlan> plan(const PlanRequest& request) {
  const ir::Node& node = *request.region.nodes.front();
  StepPlan step;
  step.kernel = "cuda.trt_nms";
  step.params = some_attrs(
      node.attrs, {"max_output_boxes", "background_class", "score_threshold", "iou_threshold", "score_activation", "class_agnostic", "box_coding", "clip_boxes",
                   "keepTopK", "topK", "backgroundLabelId", "scoreThreshold", "iouThreshold", "clipBoxes", "isNormalized", "caffeSemantics"});
  step.params.set("efficient", std::int64_t{is_efficient(node)});
  for (std::size_t i = 0; i < kTrtNmsInputs; ++i) step.inputs.push_back(node.input(i));
  // A result that nobody reads is not in the region.
  for (std::size_t i = 0; i < kTrtNmsOutputs; ++i) {
    const auto& shown = request.region.outputs;
    step.outputs.push_back(std::find(shown.begin(), shown.end(), node.output(i)) == shown.end() ? nullptr : node.output(i));
  }
  for (const plan::TensorDesc& desc : request.inputs) step.bytes += 3 * static_cast<double>(dtype_bytes(desc.dtype, desc.elements()));
  step.flops = 4 * step.bytes;
  return {step};
}

constexpr Candidate of(std::string_view pattern) { return {"cuda.trt_nms", pattern, supports, plan, row_major}; }

}  // namespace

std::span<const Candidate> candidates_trt_cuda() {
  static const std::array<Candidate, 9> list{of("EfficientNMS_TRT"),
                                             of("BatchedNMS_TRT"),
                                             of("BatchedNMSDynamic_TRT"),
                                             of("TRT::EfficientNMS_TRT"),
                                             of("TRT::BatchedNMS_TRT"),
                                             of("TRT::BatchedNMSDynamic_TRT"),
                                             of("trt.plugins::EfficientNMS_TRT"),
                                             of("trt.plugins::BatchedNMS_TRT"),
                                             of("trt.plugins::BatchedNMSDynamic_TRT")};
  return list;
}

}  // namespace lathe::ops
