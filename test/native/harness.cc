// The lab's kernels without TensorFlow: under sanitizers, by other compilers, for other processors (see kernels.ts).
//   harness digest THREADS       one line for each of some runs on odd shapes: op, shapes, attributes, sums of the
//   outputs harness fuzz COUNT SEED      random shapes, half of them wrong: a kernel computes, or refuses by name
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <set>

#include "denormals.h"
#include "kernels.h"
#include "pool.h"

namespace {

using lab::Attrs;
using lab::Op;
using lab::Shape;
using lab::Sizes;

struct Random {
  uint64_t state;
  uint32_t Next() {  // splitmix64
    uint64_t z = state += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return static_cast<uint32_t>((z ^ z >> 31) >> 32);
  }
  int64_t Below(int64_t limit) { return Next() % limit; }
  template <typename T, size_t n>
  T Of(const T (&values)[n]) {
    return values[Below(n)];
  }
  // Roughly normal, exact in float32.
  float Normal() {
    int32_t sum = 0;
    for (int i = 0; i < 4; i++) sum += static_cast<int32_t>(Next() >> 12) - (1 << 19);
    return static_cast<float>(sum) / (1 << 19);
  }
};

int64_t Elements(const Shape& shape) {
  int64_t elements = 1;
  for (int64_t size : shape) elements *= size;
  return elements;
}

// Exactly as long as its tensor, so that a sanitizer sees what is read or written beyond.
struct Tensor {
  std::unique_ptr<float[]> floats;
  int64_t size;
  explicit Tensor(int64_t size) : floats(new float[size]), size(size) {}
};

struct HarnessCall : lab::Call {
  int threads;
  std::vector<std::unique_ptr<float[]>> memory;
  HarnessCall(const Sizes& sizes, int threads) : Call(sizes), threads(threads) {}
  float* Allocate(int64_t floats) override {
    memory.emplace_back(new float[floats]);
    std::fill_n(memory.back().get(), floats, NAN);  // as memory that was used before
    return memory.back().get();
  }
  void RunTasks(int64_t tasks, const std::function<void(int64_t)>& f) override {
    if (threads > 1 && lab::RunOnSpinningThreads(threads, tasks, f)) return;
    for (int64_t task = 0; task < tasks; task++) f(task);
  }
};

struct Case {
  const Op* op;
  Attrs attrs;
  std::vector<Shape> shapes;
};

std::vector<Tensor> Run(const Case& run, const std::vector<Tensor>& inputs, int threads) {
  const Sizes sizes = run.op->Check(run.shapes, run.attrs);
  const auto kernel = run.op->make(run.attrs);
  HarnessCall call(sizes, threads);
  for (const auto& input : inputs) call.inputs.push_back(input.floats.get());
  std::vector<Tensor> outputs;
  for (const auto& output : run.op->outputs) {
    outputs.emplace_back(Elements(sizes.Of(output.patterns[0])));
    std::fill_n(outputs.back().floats.get(), outputs.back().size, NAN);
    call.outputs.push_back(outputs.back().floats.get());
  }
  kernel->Run(call);
  return outputs;
}

Case RandomCase(const Op& op, Random& random, bool empty) {
  Case result{&op, {}, {}};
  int64_t heads = 1;
  for (const std::string attr : op.attrs) {
    const std::string name = attr.substr(0, attr.find(':'));
    double value = static_cast<double>(random.Below(1000)) / 1000;
    if (attr.find("bool") != std::string::npos) value = static_cast<double>(random.Below(2));
    if (attr.find("int") != std::string::npos) value = static_cast<double>(heads = 1 + random.Below(4));
    result.attrs[name] = static_cast<float>(value);
  }
  std::string letters;
  bool star = false;
  for (const auto& input : op.inputs) {
    const auto count = input.list ? random.Below(static_cast<int64_t>(input.patterns.size()) + 1) : 1;
    if (input.list) result.attrs[input.name + "s"] = static_cast<double>(count);
    for (int64_t i = 0; i < count; i++) letters += input.patterns[i] + ",";
  }
  star = letters.find('*') != std::string::npos;
  const bool depthwise = letters.find('1') != std::string::npos, attention = letters.find('q') != std::string::npos;
  Sizes sizes;
  if (star) {
    Shape rows;
    for (int64_t rank = random.Below(4); rank > 0; rank--)
      rows.Add(random.Of({int64_t{1}, int64_t{2}, int64_t{5}, int64_t{19}}) * (empty && random.Below(12) == 0 ? 0 : 1));
    sizes.Fit("*", rows);
  }
  for (char letter : std::set<char>(letters.begin(), letters.end())) {
    if (letter <= '9' || letter == 'H' || letter == 'W' || letter == 'p') continue;
    if ((letter == 'r' && star) || (letter == 'c' && attention)) continue;
    int64_t size = random.Of<int64_t>({1, 2, 3, 7, 16, 17, 36, 50});
    if (letter == 'c') size = random.Of<int64_t>({1, 5, 16, 17, 36, 48, 63});
    if (letter == 'c' && depthwise) size = random.Of<int64_t>({16, 17, 36, 48});
    if (letter == 'k' && depthwise) size = random.Of<int64_t>({3, 5});
    if (std::string("kuv").find(letter) != std::string::npos && !depthwise && !attention)
      size = random.Of<int64_t>({1, 3, 17, 50, 300});  // some beyond what is multiplied in one go
    if (letter == 'm') size = random.Of<int64_t>({1, 60, 128, 420, 1260});
    if (letter == 'b') size = 1 + random.Below(3);
    if (letter == 'h' || letter == 'w') size = letters.find("mk") != std::string::npos ? size : 1 + random.Below(9);
    if (letter == 'r')
      size = letters.find("rp") != std::string::npos ? random.Below(2) * sizes['m'] : 1 + random.Below(4);
    if (letter == 's') size = sizes['m'] % 12 == 0 ? random.Of<int64_t>({1, 2, 3, 12}) : 1;
    if (letter == 'q') size = 3 * heads * random.Of<int64_t>({1, 5, 12, 36});
    if (letter == 'n' && attention) size = random.Of<int64_t>({1, 9, 49, 150});
    if (letter == 'x' || letter == 'y') {  // of a matmul: what its right-hand side has already
      const bool shared = (result.attrs["transpose_a"] != 0) == (letter == 'x');
      if (shared) size = sizes[result.attrs["transpose_b"] != 0 ? 'v' : 'u'];
    }
    if (empty && random.Below(12) == 0 && letter != 's') size = 0;
    sizes.Set(letter, size);
  }
  try {
    op.derive(sizes, result.attrs);
  } catch (const lab::Refused&) {
    if (!empty) throw;
  }
  for (const auto& input : op.inputs) {
    const int64_t count = input.list ? static_cast<int64_t>(result.attrs[input.name + "s"]) : 1;
    for (int64_t i = 0; i < count; i++) {
      Shape shape = sizes.Of(input.patterns[i]);
      for (int64_t& size : shape.sizes) size = std::max<int64_t>(0, size);  // what derive refused to say
      result.shapes.push_back(shape);
    }
  }
  return result;
}

void Spoil(Case& run, Random& random) {
  Shape& shape = run.shapes[random.Below(static_cast<int64_t>(run.shapes.size()))];
  switch (random.Below(4)) {
    case 0:
      if (shape.rank > 0) return void(shape.sizes[random.Below(shape.rank)] = random.Below(40));
      [[fallthrough]];
    case 1:
      return shape.Add(random.Below(4));
    case 2:
      if (shape.rank > 0) shape.rank--;
      return;
    default:
      if (const auto heads = run.attrs.find("heads"); heads != run.attrs.end())
        heads->second = static_cast<double>(random.Below(9) - 4);
      else
        shape.sizes[0] = 0;
  }
}

std::vector<Tensor> RandomInputs(const Case& run, Random& random) {
  std::vector<Tensor> inputs;
  for (const auto& shape : run.shapes) {
    inputs.emplace_back(Elements(shape));
    Random own{random.Next()};  // one draw for each: the size of panels is the processor's
    for (int64_t i = 0; i < inputs.back().size; i++) inputs.back().floats[i] = own.Normal();
  }
  for (size_t i = 0, at = 0; i < run.op->inputs.size(); i++) {  // a variance is positive
    const auto& name = run.op->inputs[i].name;
    if (name == "variance" || name == "square" || name == "rstd") {
      for (int64_t j = 0; j < inputs[at].size; j++) inputs[at].floats[j] = std::fabs(inputs[at].floats[j]) + 0.01f;
    }
    at += run.op->inputs[i].list ? static_cast<size_t>(run.attrs.at(name + "s")) : 1;
  }
  return inputs;
}

std::string Text(const Case& run) {
  std::string text = run.op->name;
  for (const auto& shape : run.shapes) text += " " + shape.Text();
  for (const auto& [name, value] : run.attrs) text += " " + name + "=" + std::to_string(value).substr(0, 5);
  return text;
}

const Op& Named(const std::string& name) {
  for (const Op* op : lab::Ops()) {
    if (op->name == name) return *op;
  }
  std::abort();
}

// What was kept for a gradient lies as this processor's panels have it: made by the kernel itself.
void KeepHidden(const Case& run, std::vector<Tensor>& inputs) {
  if (std::string(run.op->name) != "LabFeedForwardGrad" || run.shapes[5].sizes[0] == 0) return;
  std::vector<Tensor> first;
  for (size_t i : {1, 2, 3, 4}) {
    first.emplace_back(inputs[i].size);
    std::copy_n(inputs[i].floats.get(), inputs[i].size, first.back().floats.get());
  }
  first.emplace_back(run.shapes[0].sizes[1]);
  std::fill_n(first.back().floats.get(), first.back().size, 0.0f);
  const Case forward{&Named("LabFeedForward"),
                     {{"keep", 1}, {"joins", 0}},
                     {run.shapes[1], run.shapes[2], run.shapes[3], run.shapes[4], Shape{run.shapes[0].sizes[1]}}};
  inputs[5] = std::move(Run(forward, first, 1)[1]);
}

int Digest(int threads) {
  const lab::DenormalsFlushed flushed;
  std::vector<const Op*> ops = lab::Ops();
  std::sort(ops.begin(), ops.end(), [](const Op* a, const Op* b) { return std::string(a->name) < b->name; });
  for (const Op* op : ops) {
    Random random{7};
    for (int i = 0; i < 8; i++) {
      const Case run = RandomCase(*op, random, false);
      auto inputs = RandomInputs(run, random);
      KeepHidden(run, inputs);
      const auto outputs = Run(run, inputs, threads);
      std::string shown = run.op->name == std::string("LabFeedForwardGrad") ? op->name : Text(run);
      std::printf("%s", shown.c_str());
      for (size_t output = 0; output < outputs.size(); output++) {
        if (op->outputs[output].name == "hidden") continue;
        uint64_t hash = 0xcbf29ce484222325;  // FNV-1a
        for (int64_t at = 0; at < outputs[output].size; at++) {
          // A NaN's sign and payload are the processor's.
          const float value = std::isnan(outputs[output].floats[at]) ? NAN : outputs[output].floats[at];
          unsigned char bytes[sizeof value];
          std::memcpy(bytes, &value, sizeof value);
          for (const unsigned char byte : bytes) hash = (hash ^ byte) * 0x100000001b3;
        }
        std::printf(" %016llx", static_cast<unsigned long long>(hash));
      }
      std::printf("\n");
    }
  }
  return 0;
}

int Fuzz(int64_t count, uint64_t seed) {
  const lab::DenormalsFlushed flushed;
  Random random{seed};
  int64_t refused = 0;
  for (int64_t i = 0; i < count; i++) {
    const Op& op = *lab::Ops()[i % lab::Ops().size()];
    Case run = RandomCase(op, random, true);
    if (random.Below(2)) Spoil(run, random);
    std::fprintf(stderr, "%s\n", Text(run).c_str());
    try {
      op.Check(run.shapes, run.attrs);
      const auto inputs = RandomInputs(run, random);
      Run(run, inputs, 2);
    } catch (const lab::Refused& error) {
      refused++;
      if (std::string(error.what()).find(op.name) != 0)
        return std::printf("refused without its name: %s\n", error.what()), 1;
    }
  }
  std::printf("%lld runs, %lld of them refused\n", static_cast<long long>(count), static_cast<long long>(refused));
  return 0;
}

}  // namespace

int main(int count, char** args) {
  const std::string mode = count > 1 ? args[1] : "";
  if (mode == "digest" && count == 3) return Digest(std::atoi(args[2]));
  if (mode == "fuzz" && count == 4) return Fuzz(std::atoll(args[2]), std::strtoull(args[3], nullptr, 10));
  std::fprintf(stderr, "harness digest THREADS | harness fuzz COUNT SEED\n");
  return 2;
}
