#pragma once

namespace lab {

// Tells TensorFlow of all ops (see kernels.h); once, before they are used.
void RegisterOps();

}  // namespace lab
