// The kernels as ops of TensorFlow ("Lab…"), found by eager tfjs-node and by graphs alike.
#include "tensorflow.h"

#include "denormals.h"
#include "kernels.h"
#include "pool.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace lab {
namespace {

using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::shape_inference::InferenceContext;

struct Failed {
  absl::Status status;
};

void Require(const absl::Status& status) {
  if (!status.ok()) throw Failed{status};
}

// What `f` throws as a status.
template <typename F>
absl::Status StatusOf(F f) {
  try {
    f();
    return absl::OkStatus();
  } catch (const Failed& failed) {
    return failed.status;
  } catch (const Refused& refused) {
    return tensorflow::errors::InvalidArgument(refused.what());
  } catch (const std::bad_alloc&) {
    return tensorflow::errors::ResourceExhausted("a kernel of the lab found no memory for its intermediate values");
  }
}

// The attributes of an op, by what reads one: GetAttr(name, &value).
template <typename Reader>
Attrs ReadAttrs(const Op& op, const Reader& reader) {
  Attrs attrs;
  const auto read = [&](const std::string& name, auto value) {
    Require(reader.GetAttr(name, &value));
    attrs[name] = static_cast<double>(value);
  };
  for (const std::string attr : op.attrs) {
    const std::string name = attr.substr(0, attr.find(':'));
    if (attr.find("float") != std::string::npos)
      read(name, 0.0f);
    else if (attr.find("bool") != std::string::npos)
      read(name, false);
    else
      read(name, int64_t{0});
  }
  for (const auto& input : op.inputs) {
    if (input.list) read(input.name + "s", int64_t{0});
  }
  return attrs;
}

Shape ShapeOf(const tensorflow::TensorShape& from) {
  Shape shape;
  for (int i = 0; i < from.dims(); i++) shape.Add(from.dim_size(i));
  return shape;
}

struct TensorFlowCall : Call {
  TensorFlowCall(OpKernelContext* context, const Op& op, const Sizes& sizes) : Call(sizes), context_(context) {
    for (int i = 0; i < context->num_inputs(); i++) inputs.push_back(context->input(i).flat<float>().data());
    for (size_t i = 0; i < op.outputs.size(); i++) {
      tensorflow::Tensor* output = nullptr;
      Require(
          context->allocate_output(static_cast<int>(i), TensorShapeOf(sizes.Of(op.outputs[i].patterns[0])), &output));
      outputs.push_back(output->flat<float>().data());
    }
  }

  float* Allocate(int64_t floats) override {
    temporaries_.emplace_back();
    Require(context_->allocate_temp(tensorflow::DT_FLOAT, TensorShapeOf({floats}), &temporaries_.back()));
    return temporaries_.back().flat<float>().data();
  }

  void RunTasks(int64_t tasks, const std::function<void(int64_t)>& f) override {
    const auto run = [&](int64_t first, int64_t last) {
      const DenormalsFlushed flushed;
      for (int64_t task = first; task < last; task++) f(task);
    };
    const auto& threads = *context_->device()->tensorflow_cpu_worker_threads();
    if (threads.num_threads == 1) return run(0, tasks);
    if (RunOnSpinningThreads(threads.num_threads, tasks, f)) return;
    using Scheduling = tsl::thread::ThreadPool::SchedulingParams;
    threads.workers->ParallelFor(
        tasks, Scheduling(tsl::thread::ThreadPool::SchedulingStrategy::kFixedBlockSize, std::nullopt, 1), run);
  }

 private:
  static tensorflow::TensorShape TensorShapeOf(const Shape& shape) {
    tensorflow::TensorShape result;
    Require(tensorflow::TensorShape::BuildTensorShape(
        absl::MakeConstSpan(shape.sizes.data(), static_cast<size_t>(shape.rank)), &result));
    return result;
  }

  OpKernelContext* context_;
  std::vector<tensorflow::Tensor> temporaries_;
};

const Op& OpNamed(const std::string& name) {
  for (const Op* op : Ops()) {
    if (name == op->name) return *op;
  }
  throw Refused("no op " + name);
}

struct TensorFlowKernel : tensorflow::OpKernel {
  explicit TensorFlowKernel(OpKernelConstruction* construction)
      : OpKernel(construction), op_(OpNamed(construction->def().op())) {
    OP_REQUIRES_OK(construction, StatusOf([&] {
                     attrs_ = ReadAttrs(op_, *construction);
                     kernel_ = op_.make(attrs_);
                   }));
  }

  void Compute(OpKernelContext* context) override {
    OP_REQUIRES_OK(context, StatusOf([&] {
                     const DenormalsFlushed flushed;
                     std::vector<Shape> shapes;
                     shapes.reserve(context->num_inputs());
                     for (int i = 0; i < context->num_inputs(); i++)
                       shapes.push_back(ShapeOf(context->input(i).shape()));
                     const Sizes sizes = op_.Check(shapes, attrs_);
                     TensorFlowCall call(context, op_, sizes);
                     kernel_->Run(call);
                   }));
  }

 private:
  const Op& op_;
  Attrs attrs_;
  std::unique_ptr<Kernel> kernel_;
};

absl::Status InferShapes(const Op& op, InferenceContext* c) {
  return StatusOf([&] {
    std::vector<Shape> shapes(c->num_inputs());
    for (int i = 0; i < c->num_inputs(); i++) {
      if (!c->RankKnown(c->input(i))) {
        shapes[i].rank = -1;
        continue;
      }
      for (int d = 0; d < c->Rank(c->input(i)); d++) shapes[i].Add(c->Value(c->Dim(c->input(i), d)));
    }
    const Sizes sizes = op.Check(shapes, ReadAttrs(op, *c));
    for (size_t i = 0; i < op.outputs.size(); i++) {
      const Shape shape = sizes.Of(op.outputs[i].patterns[0]);
      std::vector<tensorflow::shape_inference::DimensionHandle> dims;
      for (int64_t size : shape) dims.push_back(c->MakeDim(size));
      c->set_output(static_cast<int>(i), shape.rank < 0 ? c->UnknownShape() : c->MakeShape(dims));
    }
  });
}

absl::Status Define(const Op& op, tensorflow::OpRegistrationData* data) {
  tensorflow::OpDefBuilder builder(op.name);
  for (const auto& input : op.inputs) {
    builder.Input(input.name + (input.list ? ": " + input.name + "s * float" : ": float"));
    if (input.list) builder.Attr(input.name + "s: int >= 0");
  }
  for (const char* attr : op.attrs) builder.Attr(attr);
  for (const auto& output : op.outputs) builder.Output(output.name + ": float");
  builder.SetShapeFn([&op](InferenceContext* c) { return InferShapes(op, c); });
  return builder.Finalize(data);
}

}  // namespace

void RegisterOps() {
  for (const Op* op : Ops()) {
    tensorflow::OpRegistry::Global()->Register(
        [op](tensorflow::OpRegistrationData* data) { return Define(*op, data); });
    tensorflow::kernel_factory::OpKernelRegistrar(
        tensorflow::register_kernel::Name(op->name).Device(tensorflow::DEVICE_CPU).Build(), op->name,
        [](OpKernelConstruction* construction) -> tensorflow::OpKernel* { return new TensorFlowKernel(construction); });
  }
}

}  // namespace lab
