// Between JavaScript values and C++: reading, making, wrapping, and exceptions across the border.
#pragma once

#include <node_api.h>

#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "tensorflow/c/tf_status.h"

namespace lab {

struct Pending {};  // a JavaScript exception is already pending

inline void Check(napi_env env, napi_status status) {
  if (status == napi_ok) return;
  bool pending = false;
  napi_is_exception_pending(env, &pending);
  if (pending) throw Pending();
  const napi_extended_error_info* info;
  napi_get_last_error_info(env, &info);
  throw std::runtime_error(info->error_message ? info->error_message : "bad argument");
}

inline void Check(TF_Status* status) {
  if (TF_GetCode(status) != TF_OK) throw std::runtime_error(TF_Message(status));
}

inline void Check(const absl::Status& status) {
  if (!status.ok()) throw std::runtime_error(std::string(status.message()));
}

struct Status {
  TF_Status* status = TF_NewStatus();
  ~Status() { TF_DeleteStatus(status); }
  operator TF_Status*() const { return status; }
};

template <typename T>
using Reader = napi_status (*)(napi_env, napi_value, T*);

template <typename T>
T Read(napi_env env, napi_value value, Reader<T> read) {
  T result;
  Check(env, read(env, value, &result));
  return result;
}

inline int64_t ReadInt(napi_env env, napi_value value) { return Read<int64_t>(env, value, napi_get_value_int64); }
inline double ReadDouble(napi_env env, napi_value value) { return Read<double>(env, value, napi_get_value_double); }
inline bool ReadBool(napi_env env, napi_value value) { return Read<bool>(env, value, napi_get_value_bool); }

inline std::string ReadString(napi_env env, napi_value value) {
  size_t length;
  Check(env, napi_get_value_string_utf8(env, value, nullptr, 0, &length));
  std::string text(length, '\0');
  Check(env, napi_get_value_string_utf8(env, value, &text[0], length + 1, &length));
  return text;
}

inline napi_value Field(napi_env env, napi_value object, const char* name) {
  napi_value value;
  Check(env, napi_get_named_property(env, object, name, &value));
  return value;
}

inline bool IsArray(napi_env env, napi_value value) {
  bool is;
  Check(env, napi_is_array(env, value, &is));
  return is;
}

template <typename F>
auto ReadList(napi_env env, napi_value array, F read) {
  uint32_t length;
  Check(env, napi_get_array_length(env, array, &length));
  std::vector<decltype(read(env, array))> list;
  list.reserve(length);
  for (uint32_t i = 0; i < length; i++) {
    napi_value element;
    Check(env, napi_get_element(env, array, i, &element));
    list.push_back(read(env, element));
  }
  return list;
}

inline napi_value Int(napi_env env, int64_t value) {
  napi_value result;
  Check(env, napi_create_int64(env, value, &result));
  return result;
}

inline napi_value Text(napi_env env, const std::string& text) {
  napi_value result;
  Check(env, napi_create_string_utf8(env, text.data(), text.size(), &result));
  return result;
}

template <typename List, typename F>
napi_value Array(napi_env env, const List& list, F make) {
  napi_value array;
  Check(env, napi_create_array_with_length(env, list.size(), &array));
  uint32_t i = 0;
  for (const auto& item : list) Check(env, napi_set_element(env, array, i++, make(item)));
  return array;
}

inline napi_value Record(napi_env env, std::initializer_list<std::pair<const char*, napi_value>> fields) {
  napi_value object;
  Check(env, napi_create_object(env, &object));
  for (const auto& field : fields) Check(env, napi_set_named_property(env, object, field.first, field.second));
  return object;
}

// An object of ours as a JavaScript value; deleted when collected, or emptied earlier by `release`.
template <typename T>
napi_value Wrap(napi_env env, T* object) {
  napi_value external;
  auto* holder = new std::unique_ptr<T>(object);
  Check(env, napi_create_external(
                 env, holder, [](napi_env, void* data, void*) { delete static_cast<std::unique_ptr<T>*>(data); },
                 nullptr, &external));
  return external;
}

template <typename T>
std::unique_ptr<T>& Holder(napi_env env, napi_value external) {
  void* data;
  Check(env, napi_get_value_external(env, external, &data));
  return *static_cast<std::unique_ptr<T>*>(data);
}

template <typename T>
T& Unwrap(napi_env env, napi_value external) {
  auto& holder = Holder<T>(env, external);
  if (!holder) throw std::runtime_error("used after it was disposed");
  return *holder;
}

template <napi_value (*function)(napi_env, napi_value*)>
napi_value Call(napi_env env, napi_callback_info info) {
  napi_value args[5] = {};
  size_t count = 5;
  try {
    Check(env, napi_get_cb_info(env, info, &count, args, nullptr, nullptr));
    return function(env, args);
  } catch (const Pending&) {
  } catch (const std::exception& error) {
    napi_throw_error(env, nullptr, error.what());
  }
  return nullptr;
}

template <napi_value (*function)(napi_env, napi_value*)>
void Export(napi_env env, napi_value exports, const char* name) {
  napi_value value;
  napi_create_function(env, name, NAPI_AUTO_LENGTH, Call<function>, nullptr, &value);
  napi_set_named_property(env, exports, name, value);
}

}  // namespace lab
