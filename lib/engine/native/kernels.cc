#include "kernels.h"

#include <atomic>
#include <exception>

namespace lab {
namespace {

std::string Joined(const std::vector<std::string>& texts) {
  std::string all;
  for (const auto& text : texts) all += (all.empty() ? "" : ", ") + text;
  return all;
}

bool Agree(int64_t a, int64_t b) { return a == kUnknown || b == kUnknown || a == b; }

}  // namespace

void Shape::Add(int64_t size) {
  if (rank == static_cast<int>(sizes.size())) throw Refused("a shape has more than eight dimensions");
  sizes[rank++] = size;
}

std::string Shape::Text() const {
  if (rank < 0) return "of unknown shape";
  std::vector<std::string> texts;
  for (int64_t size : *this) texts.push_back(size == kUnknown ? "?" : std::to_string(size));
  return "[" + Joined(texts) + "]";
}

int64_t Sizes::Rows() const {
  if (!rows_known_) return kUnknown;
  int64_t rows = 1;
  for (int64_t size : rows_) {
    if (size == kUnknown) return kUnknown;
    rows *= size;
  }
  return rows;
}

void Sizes::Set(char letter, int64_t size) {
  int64_t& known = known_[letter - 'A'];
  if (!Agree(known, size))
    throw Refused(std::string(1, letter) + " is " + std::to_string(known) + " and " + std::to_string(size));
  if (size != kUnknown) known = size;
}

void Sizes::Fit(const std::string& pattern, const Shape& shape) {
  if (shape.rank < 0) return;
  const bool open = pattern.find('*') != std::string::npos;
  const int letters = static_cast<int>(pattern.size()) - open, more = shape.rank - letters;
  if (open ? more < 0 : more != 0)
    throw Refused(shape.Text() + " has " + std::to_string(shape.rank) + " dimensions, not " +
                  (open ? "at least " : "") + std::to_string(letters));
  int at = 0;
  for (char c : pattern) {
    if (c != '*') {
      const int64_t size = shape.sizes[at++];
      if (c > '9')
        Set(c, size);
      else if (!Agree(size, c - '0'))
        throw Refused(shape.Text() + " has " + std::to_string(size) + " where " + c + " should be");
      continue;
    }
    Shape rows;
    for (int i = 0; i < more; i++) rows.Add(shape.sizes[at++]);
    if (rows_known_ && (rows.rank != rows_.rank || !std::equal(rows.begin(), rows.end(), rows_.begin(), Agree)))
      throw Refused("* is " + rows_.Text() + " and " + rows.Text());
    if (!rows_known_) rows_ = rows;
    rows_known_ = true;
  }
}

Shape Sizes::Of(const std::string& pattern) const {
  Shape shape;
  for (char c : pattern) {
    if (c != '*') {
      shape.Add(c > '9' ? (*this)[c] : c - '0');
      continue;
    }
    if (!rows_known_) {
      shape.rank = -1;
      return shape;
    }
    for (int64_t size : rows_) shape.Add(size);
  }
  return shape;
}

Argument::Argument(const char* declaration) : text(declaration) {
  const size_t colon = text.find(':');
  list = text[colon - 1] == '?';
  name = text.substr(0, colon - list);
  for (size_t at = colon + 1, bar; at < text.size(); at = bar + 1) {
    bar = std::min(text.find('|', at), text.size());
    std::string pattern = text.substr(at, bar - at);
    pattern.erase(std::remove(pattern.begin(), pattern.end(), ' '), pattern.end());
    patterns.push_back(pattern);
  }
}

Sizes Op::Check(const std::vector<Shape>& shapes, const Attrs& attrs) const {
  Sizes sizes;
  try {
    size_t at = 0;
    for (const auto& input : inputs) {
      const int64_t count = input.list ? static_cast<int64_t>(attrs.at(input.name + "s")) : 1;
      if (count > static_cast<int64_t>(input.patterns.size()))
        throw Refused(std::to_string(count) + " inputs in its list " + input.name);
      for (int64_t i = 0; i < count; i++) {
        if (at == shapes.size()) throw Refused("too few inputs");
        sizes.Fit(input.patterns[i], shapes[at++]);
      }
    }
    if (at != shapes.size()) throw Refused("too many inputs");
    derive(sizes, attrs);
  } catch (const Refused& refused) {
    std::vector<std::string> takes, got;
    for (const auto& input : inputs) takes.push_back(input.text);
    for (size_t i = 0; i < shapes.size(); i++)
      got.push_back(inputs[std::min(i, inputs.size() - 1)].name + " " + shapes[i].Text());
    throw Refused(std::string(name) + " takes " + Joined(takes) + "; it got " + Joined(got) + ": " + refused.what());
  }
  return sizes;
}

const Declaration& DeclarationOf(const std::string& name) {
  static const auto* const table = new std::vector<Declaration>{
#include "ops.inc"
  };
  for (const Declaration& declaration : *table) {
    if (name == declaration.name) return declaration;
  }
  throw std::logic_error(name + " is not in the table of ops");
}

std::vector<const Op*>& Ops() {
  static auto* const ops = new std::vector<const Op*>;
  return *ops;
}

void Call::Parallel(int64_t tasks, const std::function<void(int64_t)>& f) {
  std::atomic<bool> failed{false};
  std::exception_ptr failure;
  RunTasks(tasks, [&](int64_t task) {
    try {
      f(task);
    } catch (...) {
      if (!failed.exchange(true)) failure = std::current_exception();
    }
  });
  if (failed) std::rethrow_exception(failure);
}

}  // namespace lab
