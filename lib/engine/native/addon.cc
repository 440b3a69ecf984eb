// tfjs-node's binding as it is, plus what the graph compiler needs: graphs with TensorFlow's own shape inference, and
// sessions that replay them on the tensors of the same backend. One translation unit, so that both share the tensor
// table.
#include <node_api.h>
#undef NAPI_MODULE
#define NAPI_MODULE(name, init)  // tfjs-node's registration; the module at the end of this file takes its place
#include <algorithm>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#if defined(__GLIBC__)
#include <malloc.h>
#endif

#include "absl/log/globals.h"
#include "binding/tfjs_backend.cc"
#include "binding/tfjs_binding.cc"
#include "denormals.h"
#include "kernels.h"
#include "signals.h"
#include "tensorflow.h"
#include "tensorflow/c/c_api_internal.h"
#include "tensorflow/c/tf_tensor_internal.h"
#include "tensorflow/core/common_runtime/optimization_registry.h"
#include "tensorflow/core/framework/graph.pb.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/protobuf/config.pb.h"
#include "tensorflow/core/public/session.h"
#include "values.h"

namespace lab {
namespace {

using tfnodejs::TFJSBackend;

// The binding keeps its table of tensors private; naming a private member in an explicit instantiation is allowed.
template <typename Tag, typename Tag::Member member>
struct Expose {
  friend typename Tag::Member Get(Tag) { return member; }
};
struct HandleMap {
  using Member = std::unordered_map<int32_t, TFE_TensorHandle*> TFJSBackend::*;
  friend Member Get(HandleMap);
};
struct OutputInfo {
  using Member = napi_value (TFJSBackend::*)(napi_env, TFE_TensorHandle*);
  friend Member Get(OutputInfo);
};
template struct Expose<HandleMap, &TFJSBackend::tfe_handle_map_>;
template struct Expose<OutputInfo, &TFJSBackend::GenerateOutputTensorInfo>;

TFJSBackend* Backend(napi_env env) {
  void* backend;
  Check(env, napi_get_instance_data(env, &backend));
  return static_cast<TFJSBackend*>(backend);
}

TFE_TensorHandle* Handle(napi_env env, int64_t id) {
  const auto& handles = Backend(env)->*Get(HandleMap());
  const auto found = handles.find(static_cast<int32_t>(id));
  if (found == handles.end()) throw std::runtime_error("tensor " + std::to_string(id) + " was disposed");
  return found->second;
}

// ---- Graphs ----

struct Graph {
  TF_Graph* graph = TF_NewGraph();
  std::vector<TF_Output> endpoints;  // what JavaScript names by number
  ~Graph() { TF_DeleteGraph(graph); }
};

void SetAttr(napi_env env, TF_OperationDescription* op, napi_value attr) {
  const std::string name = ReadString(env, Field(env, attr, "name"));
  const auto type = static_cast<TF_AttrType>(ReadInt(env, Field(env, attr, "type")));
  const napi_value value = Field(env, attr, "value");
  const bool list = type != TF_ATTR_SHAPE && IsArray(env, value);
  switch (type) {
    case TF_ATTR_STRING:
      if (list) {
        const auto texts = ReadList(env, value, ReadString);
        std::vector<const void*> data;
        std::vector<size_t> lengths;
        for (const auto& text : texts) data.push_back(text.data()), lengths.push_back(text.size());
        TF_SetAttrStringList(op, name.c_str(), data.data(), lengths.data(), static_cast<int>(data.size()));
      } else {
        const std::string text = ReadString(env, value);
        TF_SetAttrString(op, name.c_str(), text.data(), text.size());
      }
      break;
    case TF_ATTR_INT:
      if (list) {
        const auto ints = ReadList(env, value, ReadInt);
        TF_SetAttrIntList(op, name.c_str(), ints.data(), static_cast<int>(ints.size()));
      } else {
        TF_SetAttrInt(op, name.c_str(), ReadInt(env, value));
      }
      break;
    case TF_ATTR_FLOAT:
      if (list) {
        const auto doubles = ReadList(env, value, ReadDouble);
        const std::vector<float> floats(doubles.begin(), doubles.end());
        TF_SetAttrFloatList(op, name.c_str(), floats.data(), static_cast<int>(floats.size()));
      } else {
        TF_SetAttrFloat(op, name.c_str(), static_cast<float>(ReadDouble(env, value)));
      }
      break;
    case TF_ATTR_BOOL:
      if (list) {
        const auto bools = ReadList(env, value, ReadBool);
        const std::vector<unsigned char> bytes(bools.begin(), bools.end());
        TF_SetAttrBoolList(op, name.c_str(), bytes.data(), static_cast<int>(bytes.size()));
      } else {
        TF_SetAttrBool(op, name.c_str(), ReadBool(env, value));
      }
      break;
    case TF_ATTR_TYPE:
      if (list) {
        const auto ints = ReadList(env, value, ReadInt);
        std::vector<TF_DataType> types;
        for (int64_t i : ints) types.push_back(static_cast<TF_DataType>(i));
        TF_SetAttrTypeList(op, name.c_str(), types.data(), static_cast<int>(types.size()));
      } else {
        TF_SetAttrType(op, name.c_str(), static_cast<TF_DataType>(ReadInt(env, value)));
      }
      break;
    case TF_ATTR_SHAPE: {
      const auto dims = ReadList(env, value, ReadInt);
      TF_SetAttrShape(op, name.c_str(), dims.data(), static_cast<int>(dims.size()));
      break;
    }
    default:
      throw std::runtime_error("attribute '" + name + "' has an unknown type");
  }
}

// The flat list of inputs, divided as the op declares them: `values` of ConcatV2 is a list, its `axis` is not.
void AddInputs(TF_OperationDescription* description, const tensorflow::OpDef& op,
               const std::vector<TF_Output>& inputs) {
  size_t single = 0, lists = 0;
  for (const auto& arg : op.input_arg()) (arg.number_attr().empty() && arg.type_list_attr().empty() ? single : lists)++;
  if (inputs.size() < single || (lists == 0 && inputs.size() != single)) {
    throw std::runtime_error(op.name() + " takes " + std::to_string(single) + " inputs, not " +
                             std::to_string(inputs.size()));
  }
  const size_t length =
      lists ? (inputs.size() - single) / lists : 0;  // no op that tfjs-node runs has lists of unequal length
  size_t at = 0;
  for (const auto& arg : op.input_arg()) {
    if (arg.number_attr().empty() && arg.type_list_attr().empty()) {
      TF_AddInput(description, inputs[at++]);
    } else {
      TF_AddInputList(description, &inputs[at], static_cast<int>(length));
      at += length;
    }
  }
}

// [{endpoint, dtype, shape}] of an operation's outputs. An unknown dimension is −1, an unknown rank null.
napi_value Outputs(napi_env env, Graph& graph, TF_Operation* operation) {
  std::vector<int> indices(TF_OperationNumOutputs(operation));
  for (size_t i = 0; i < indices.size(); i++) indices[i] = static_cast<int>(i);
  return Array(env, indices, [&](int index) {
    const TF_Output output{operation, index};
    graph.endpoints.push_back(output);
    Status status;
    const int rank = TF_GraphGetTensorNumDims(graph.graph, output, status);
    Check(status);
    napi_value shape;
    Check(env, napi_get_null(env, &shape));
    if (rank >= 0) {
      std::vector<int64_t> dims(rank);
      TF_GraphGetTensorShape(graph.graph, output, dims.data(), rank, status);
      Check(status);
      shape = Array(env, dims, [&](int64_t dim) { return Int(env, dim); });
    }
    return Record(env, {{"endpoint", Int(env, static_cast<int64_t>(graph.endpoints.size()) - 1)},
                        {"dtype", Int(env, TF_OperationOutputType(output))},
                        {"shape", shape}});
  });
}

// graphNew() → graph
napi_value GraphNew(napi_env env, napi_value*) { return Wrap(env, new Graph()); }

// graphOp(graph, op, name, attrs, endpoints) → outputs
napi_value GraphOp(napi_env env, napi_value* args) {
  Graph& graph = Unwrap<Graph>(env, args[0]);
  const std::string op = ReadString(env, args[1]), name = ReadString(env, args[2]);
  const tensorflow::OpDef* definition;
  Check(tensorflow::OpRegistry::Global()->LookUpOpDef(op, &definition));
  const auto inputs =
      ReadList(env, args[4], [&](napi_env e, napi_value value) { return graph.endpoints.at(ReadInt(e, value)); });
  TF_OperationDescription* description = TF_NewOperation(graph.graph, op.c_str(), name.c_str());
  AddInputs(description, *definition, inputs);
  ReadList(env, args[3], [&](napi_env e, napi_value attr) { return SetAttr(e, description, attr), 0; });
  Status status;
  TF_Operation* operation = TF_FinishOperation(description, status);
  Check(status);
  return Outputs(env, graph, operation);
}

// graphConst(graph, name, dtype, shape, typedArray) → outputs. Two words of an Int32Array make an int64, as in
// tfjs-node.
napi_value GraphConst(napi_env env, napi_value* args) {
  Graph& graph = Unwrap<Graph>(env, args[0]);
  const std::string name = ReadString(env, args[1]);
  const auto dtype = static_cast<TF_DataType>(ReadInt(env, args[2]));
  const auto shape = ReadList(env, args[3], ReadInt);
  napi_typedarray_type type;
  size_t length;
  void* data;
  Check(env, napi_get_typedarray_info(env, args[4], &type, &length, &data, nullptr, nullptr));
  size_t elements = 1;
  for (int64_t dim : shape) elements *= dim;
  const size_t bytes = elements * TF_DataTypeSize(dtype);
  if (length * (type == napi_uint8_array ? 1 : type == napi_bigint64_array ? 8 : 4) != bytes)
    throw std::runtime_error("values do not match the shape of the constant");
  std::unique_ptr<TF_Tensor, void (*)(TF_Tensor*)> tensor(
      TF_AllocateTensor(dtype, shape.data(), static_cast<int>(shape.size()), bytes), TF_DeleteTensor);
  if (bytes) memcpy(TF_TensorData(tensor.get()), data, bytes);
  Status status;
  TF_OperationDescription* description = TF_NewOperation(graph.graph, "Const", name.c_str());
  TF_SetAttrType(description, "dtype", dtype);
  TF_SetAttrTensor(description, "value", tensor.get(), status);
  TF_Operation* operation = TF_FinishOperation(description, status);
  Check(status);
  return Outputs(env, graph, operation);
}

// requireKernel(graph, endpoint): throws where no kernel computes its node for its types, which an op's definition does
// not say.
napi_value RequireKernel(napi_env env, napi_value* args) {
  const TF_Output& output = Unwrap<Graph>(env, args[0]).endpoints.at(ReadInt(env, args[1]));
  const tensorflow::KernelDef* kernel;
  Check(tensorflow::FindKernelDef(tensorflow::DEVICE_CPU, output.oper->node.def(), &kernel, nullptr));
  return nullptr;
}

// graphDef(graph) → Buffer, a serialised GraphDef
napi_value GraphDefBytes(napi_env env, napi_value* args) {
  Status status;
  std::unique_ptr<TF_Buffer, void (*)(TF_Buffer*)> buffer(TF_NewBuffer(), TF_DeleteBuffer);
  TF_GraphToGraphDef(Unwrap<Graph>(env, args[0]).graph, buffer.get(), status);
  Check(status);
  napi_value result;
  Check(env, napi_create_buffer_copy(env, buffer->length, buffer->data, nullptr, &result));
  return result;
}

// graphDelete(graph)
napi_value GraphDelete(napi_env env, napi_value* args) {
  Holder<Graph>(env, args[0]).reset();
  return nullptr;
}

// ---- Sessions ----

struct Session {
  std::unique_ptr<tensorflow::Session> session;
  tensorflow::CallableOptions options;
  tensorflow::Session::CallableHandle callable;
  ~Session() {
    if (session) session->Close().IgnoreError();
  }
};

// Shared with the runs in flight on other threads: JavaScript may delete it before they end.
using SharedSession = std::shared_ptr<Session>;

// sessionNew(graphDef, feeds, fetches, threads) → session. Feeds and fetches are 'node:0' names. Operations run one
// after another on the caller's thread, each divided among the threads: branches at once gained nothing, and cost 5–10
// % by handing over between threads.
napi_value SessionNew(napi_env env, napi_value* args) {
  const SignalsHeld held;
  const DenormalsFlushed flushed;
  void* data;
  size_t length;
  Check(env, napi_get_buffer_info(env, args[0], &data, &length));
  tensorflow::GraphDef graph;
  if (!graph.ParseFromArray(data, static_cast<int>(length))) throw std::runtime_error("not a GraphDef");
  tensorflow::SessionOptions options;
  options.config.set_intra_op_parallelism_threads(static_cast<int>(ReadInt(env, args[3])));
  // TensorFlow's graph optimizer changes values: max(x, 2x) becomes the minimum, (x + c) − c becomes x, a NaN that
  // passes a fused ReLU 0. What of it pays, compile/passes does; constants are folded without it.
  options.config.mutable_graph_options()->mutable_rewrite_options()->set_disable_meta_optimizer(true);
  options.config.mutable_experimental()->set_disable_output_partition_graphs(true);  // copies that nobody reads
  auto session = std::make_shared<Session>();
  session->session.reset(tensorflow::NewSession(options));
  Check(session->session->Create(std::move(graph)));
  for (const auto& feed : ReadList(env, args[1], ReadString)) session->options.add_feed(feed);
  for (const auto& fetch : ReadList(env, args[2], ReadString)) session->options.add_fetch(fetch);
  session->options.mutable_run_options()->set_inter_op_thread_pool(-1);  // the caller's thread
  Check(session->session->MakeCallable(session->options, &session->callable));
  return Wrap(env, new SharedSession(std::move(session)));
}

std::vector<tensorflow::Tensor> Feeds(napi_env env, napi_value ids) {
  const auto list = ReadList(env, ids, ReadInt);
  std::vector<tensorflow::Tensor> feeds(list.size());
  Status status;
  for (size_t i = 0; i < list.size(); i++) {
    std::unique_ptr<TF_Tensor, void (*)(TF_Tensor*)> tensor(TFE_TensorHandleResolve(Handle(env, list[i]), status),
                                                            TF_DeleteTensor);
    Check(status);
    Check(tensorflow::TF_TensorToTensor(tensor.get(), &feeds[i]));
  }
  return feeds;
}

// The results as tensors of tfjs-node's backend; they share TensorFlow's buffers.
napi_value Fetched(napi_env env, const std::vector<tensorflow::Tensor>& results) {
  return Array(env, results, [&](const tensorflow::Tensor& result) {
    absl::Status converted;
    std::unique_ptr<TF_Tensor, void (*)(TF_Tensor*)> tensor(tensorflow::TF_TensorFromTensor(result, &converted),
                                                            TF_DeleteTensor);
    Check(converted);
    Status status;
    TFE_TensorHandle* handle = TFE_NewTensorHandle(tensor.get(), status);
    Check(status);
    return (Backend(env)->*Get(OutputInfo()))(env, handle);
  });
}

// sessionRun(session, tensorIds) → [{id, dtype, shape}]
napi_value SessionRun(napi_env env, napi_value* args) {
  const SignalsHeld held;
  const DenormalsFlushed flushed;
  Session& session = *Unwrap<SharedSession>(env, args[0]);
  std::vector<tensorflow::Tensor> results;
  Check(session.session->RunCallable(session.callable, Feeds(env, args[1]), &results, nullptr));
  return Fetched(env, results);
}

// A run on a thread of Node's pool.
struct Flight {
  SharedSession session;
  std::vector<tensorflow::Tensor> feeds, results;
  absl::Status status;
  napi_deferred deferred;
  napi_async_work work = nullptr;
};

void Fly(napi_env, void* data) {
  const SignalsHeld held;
  const DenormalsFlushed flushed;
  Flight& flight = *static_cast<Flight*>(data);
  flight.status =
      flight.session->session->RunCallable(flight.session->callable, flight.feeds, &flight.results, nullptr);
}

void Land(napi_env env, napi_status, void* data) {
  const std::unique_ptr<Flight> flight(static_cast<Flight*>(data));
  napi_delete_async_work(env, flight->work);
  std::string reason;
  try {
    Check(flight->status);
    napi_resolve_deferred(env, flight->deferred, Fetched(env, flight->results));
    return;
  } catch (const Pending&) {
    napi_value error;
    napi_get_and_clear_last_exception(env, &error);
    napi_reject_deferred(env, flight->deferred, error);
    return;
  } catch (const std::exception& error) {
    reason = error.what();
  }
  napi_value message, error;
  napi_create_string_utf8(env, reason.data(), reason.size(), &message);
  napi_create_error(env, nullptr, message, &error);
  napi_reject_deferred(env, flight->deferred, error);
}

// sessionRunAsync(session, tensorIds) → promise of what sessionRun returns; the event loop stays free meanwhile.
napi_value SessionRunAsync(napi_env env, napi_value* args) {
  auto flight = std::make_unique<Flight>();
  flight->session = Unwrap<SharedSession>(env, args[0]);
  flight->feeds = Feeds(env, args[1]);
  napi_value promise;
  Check(env, napi_create_promise(env, &flight->deferred, &promise));
  Check(env, napi_create_async_work(env, nullptr, Text(env, "sessionRun"), Fly, Land, flight.get(), &flight->work));
  Check(env, napi_queue_async_work(env, flight->work));
  flight.release();
  return promise;
}

// sessionProfile(session, tensorIds) → [{node, op, thread, start, duration}] of one run, in microseconds
napi_value SessionProfile(napi_env env, napi_value* args) {
  const SignalsHeld held;
  const DenormalsFlushed flushed;
  Session& session = *Unwrap<SharedSession>(env, args[0]);
  tensorflow::CallableOptions options = session.options;
  options.mutable_run_options()->set_trace_level(tensorflow::RunOptions::FULL_TRACE);
  tensorflow::Session::CallableHandle callable;
  Check(session.session->MakeCallable(options, &callable));
  std::vector<tensorflow::Tensor> results;
  tensorflow::RunMetadata metadata;
  // The first run makes the callable's kernels, which then pack their weights: the second is like any later one.
  absl::Status ran = session.session->RunCallable(callable, Feeds(env, args[1]), &results, nullptr);
  if (ran.ok()) ran = session.session->RunCallable(callable, Feeds(env, args[1]), &results, &metadata);
  session.session->ReleaseCallable(callable).IgnoreError();
  Check(ran);
  std::vector<const tensorflow::NodeExecStats*> nodes;
  for (const auto& device : metadata.step_stats().dev_stats()) {
    for (const auto& node : device.node_stats()) nodes.push_back(&node);
  }
  return Array(env, nodes, [&](const tensorflow::NodeExecStats* node) {
    return Record(env, {{"node", Text(env, node->node_name())},
                        {"label", Text(env, node->timeline_label())},
                        {"thread", Int(env, node->thread_id())},
                        {"start", Int(env, node->all_start_micros() + node->op_start_rel_micros())},
                        {"duration", Int(env, node->op_end_rel_micros() - node->op_start_rel_micros())}});
  });
}

// sessionDelete(session)
napi_value SessionDelete(napi_env env, napi_value* args) {
  Holder<SharedSession>(env, args[0]).reset();
  return nullptr;
}

// A function of tfjs-node's that computes.
template <napi_value (*function)(napi_env, napi_callback_info)>
napi_value Guarded(napi_env env, napi_callback_info info) {
  const SignalsHeld held;
  const DenormalsFlushed flushed;
  return function(env, info);
}

template <napi_value (*function)(napi_env, napi_callback_info)>
void ExportGuarded(napi_env env, napi_value exports, const char* name) {
  napi_value value;
  Check(env, napi_create_function(env, name, NAPI_AUTO_LENGTH, Guarded<function>, nullptr, &value));
  Check(env, napi_set_named_property(env, exports, name, value));
}

// tfjs-node's exports, some of them guarded. They go into an object of ours, because they are read-only in tfjs-node's,
// where setting them changes nothing and says nothing.
void ExportTfjs(napi_env env, napi_value exports) {
  napi_value theirs, names;
  Check(env, napi_create_object(env, &theirs));
  theirs = tfnodejs::InitTFNodeJSBinding(env, theirs);
  Check(env, napi_get_all_property_names(env, theirs, napi_key_own_only, napi_key_all_properties,
                                         napi_key_numbers_to_strings, &names));
  for (const auto& name : ReadList(env, names, ReadString))
    Check(env, napi_set_named_property(env, exports, name.c_str(), Field(env, theirs, name.c_str())));
  ExportGuarded<tfnodejs::ExecuteOp>(env, exports, "executeOp");
  ExportGuarded<tfnodejs::LoadSavedModel>(env, exports, "loadSavedModel");
  ExportGuarded<tfnodejs::RunSavedModel>(env, exports, "runSavedModel");
}

// XLA's graph passes find nothing to do in graphs of this lab, and took two fifths of the time in which a session
// loads.
void DropXlaPasses() {
  const std::set<std::string> names{
      "FunctionalizeControlFlowForXlaPass",
      "EncapsulateXlaComputationsPass",
      "IntroduceFloatingPointJitterPass",
      "CloneConstantsForBetterClusteringPass",
      "ClusterScopingPass",
      "MarkForCompilationPass",
      "ForceXlaConstantsOnHostPass",
      "IncreaseDynamismForAutoJitPass",
      "PartiallyDeclusterPass",
      "ReportClusteringInfoPass",
      "EncapsulateSubgraphsPass",
      "BuildXlaOpsPass",
  };
  for (const auto& [grouping, phases] : tensorflow::OptimizationPassRegistry::Global()->groups()) {
    for (const auto& [phase, passes] : phases) {
      // The registry only adds. It is no constant itself, and no session reads it yet.
      auto& list = const_cast<std::vector<std::unique_ptr<tensorflow::GraphOptimizationPass>>&>(passes);
      list.erase(std::remove_if(list.begin(), list.end(), [&](const auto& pass) { return names.count(pass->name()); }),
                 list.end());
    }
  }
}

// What TensorFlow frees stays with the process, which then has its peak for good. All tensors of a step are freed and
// allocated again in the next one, and pages that go to the system and come back zeroed cost a quarter of a step of
// XXS at 224 px.
void KeepFreedMemory() {
#if defined(__GLIBC__)
  mallopt(M_MMAP_MAX, 0);
  mallopt(M_TRIM_THRESHOLD, -1);
#endif
}

// What this file is built for, to be read in it by who has yet to decide whether the processor can run it.
[[gnu::used]] const char kInstructions[] = "EDGEVIT_ISA=" LAB_ISA ";";

}  // namespace
}  // namespace lab

NAPI_MODULE_INIT() {
  const lab::SignalsHeld held;  // in TensorFlow's threads for good
  static std::once_flag once;   // of all Node's threads that load this file
  std::call_once(once, [] {
    absl::SetMinLogLevel(
        absl::LogSeverityAtLeast::kError);  // TF_CPP_MIN_LOG_LEVEL does not reach all that TensorFlow logs
    lab::KeepFreedMemory();
    lab::RegisterOps();
    lab::DropXlaPasses();
  });
  try {
    lab::ExportTfjs(env, exports);
    lab::Check(env, napi_set_named_property(env, exports, "isa", lab::Text(env, LAB_ISA)));
  } catch (const lab::Pending&) {
    return nullptr;
  } catch (const std::exception& error) {
    napi_throw_error(env, nullptr, error.what());
    return nullptr;
  }
  lab::Export<lab::GraphNew>(env, exports, "graphNew");
  lab::Export<lab::GraphOp>(env, exports, "graphOp");
  lab::Export<lab::GraphConst>(env, exports, "graphConst");
  lab::Export<lab::RequireKernel>(env, exports, "requireKernel");
  lab::Export<lab::GraphDefBytes>(env, exports, "graphDef");
  lab::Export<lab::GraphDelete>(env, exports, "graphDelete");
  lab::Export<lab::SessionNew>(env, exports, "sessionNew");
  lab::Export<lab::SessionRun>(env, exports, "sessionRun");
  lab::Export<lab::SessionRunAsync>(env, exports, "sessionRunAsync");
  lab::Export<lab::SessionProfile>(env, exports, "sessionProfile");
  lab::Export<lab::SessionDelete>(env, exports, "sessionDelete");
  return exports;
}
