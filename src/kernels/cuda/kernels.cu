// All kernels, in one translation unit: one PTX module.
#include "attention.cu"
#include "cache.cu"
#include "conv.cu"
#include "elementwise.cu"
#include "layout.cu"
#include "norm.cu"
#include "vae.cu"
