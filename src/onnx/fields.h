// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Field numbers of the ONNX protobuf messages (onnx.proto, IR version 14). Facts of the format.

#include <cstdint>

#include "lathe/dtype.h"

namespace lathe::onnx::field {

using Tag = std::uint32_t;

namespace model {
inline constexpr Tag kIrVersion = 1, kProducerName = 2, kProducerVersion = 3, kDomain = 4, kModelVersion = 5, kDoc = 6, kGraph = 7, kOpsetImport = 8,
                     kMetadata = 14, kTrainingInfo = 20, kFunctions = 25, kConfiguration = 26;
}
namespace opset {
inline constexpr Tag kDomain = 1, kVersion = 2;
}
namespace entry {
inline constexpr Tag kKey = 1, kValue = 2;
}
namespace graph {
inline constexpr Tag kNode = 1, kName = 2, kInitializer = 5, kDoc = 10, kInput = 11, kOutput = 12, kValueInfo = 13, kQuantization = 14, kSparseInitializer = 15,
                     kMetadata = 16;
}
namespace node {
inline constexpr Tag kInput = 1, kOutput = 2, kName = 3, kOpType = 4, kAttribute = 5, kDoc = 6, kDomain = 7, kOverload = 8, kMetadata = 9, kDevices = 10;
}
namespace attribute {
inline constexpr Tag kName = 1, kFloat = 2, kInt = 3, kString = 4, kTensor = 5, kGraph = 6, kFloats = 7, kInts = 8, kStrings = 9, kTensors = 10, kGraphs = 11,
                     kDoc = 13, kType = 14, kTypes = 15, kKind = 20, kRef = 21, kSparse = 22, kSparses = 23;
}
namespace tensor {
inline constexpr Tag kDims = 1, kDataType = 2, kSegment = 3, kFloatData = 4, kInt32Data = 5, kStringData = 6, kInt64Data = 7, kName = 8, kRawData = 9,
                     kDoubleData = 10, kUint64Data = 11, kDoc = 12, kExternal = 13, kLocation = 14, kMetadata = 16;
}
namespace sparse {
inline constexpr Tag kValues = 1, kIndices = 2, kDims = 3;
}
namespace value_info {
inline constexpr Tag kName = 1, kType = 2, kDoc = 3, kMetadata = 4;
}
namespace type {
inline constexpr Tag kTensor = 1, kSequence = 4, kMap = 5, kDenotation = 6, kOpaque = 7, kSparse = 8, kOptional = 9;
inline constexpr Tag kElement = 1, kShape = 2;      // of Tensor and SparseTensor; Sequence and Optional: element type
inline constexpr Tag kKeyType = 1, kValueType = 2;  // of Map
inline constexpr Tag kDim = 1;                      // of TensorShapeProto
inline constexpr Tag kDimValue = 1, kDimParam = 2, kDimDenotation = 3;
}  // namespace type
namespace function {
inline constexpr Tag kName = 1, kInput = 4, kOutput = 5, kAttribute = 6, kNode = 7, kDoc = 8, kOpsetImport = 9, kDomain = 10, kAttributeProto = 11,
                     kValueInfo = 12, kOverload = 13, kMetadata = 14;
}

}  // namespace lathe::onnx::field

namespace lathe::onnx {

/// The IR version that introduced an element type.
inline std::int64_t ir_version_of(DType dtype) noexcept {
  switch (dtype) {
    case DType::kBFloat16: return 4;
    case DType::kFloat8E4M3FN:
    case DType::kFloat8E4M3FNUZ:
    case DType::kFloat8E5M2:
    case DType::kFloat8E5M2FNUZ: return 9;
    case DType::kUint4:
    case DType::kInt4: return 10;
    case DType::kFloat4E2M1: return 11;
    case DType::kFloat8E8M0: return 12;
    case DType::kUint2:
    case DType::kInt2: return 13;
    case DType::kFloat6E2M3:
    case DType::kFloat6E3M2: return 14;
    default: return 1;
  }
}

}  // namespace lathe::onnx
