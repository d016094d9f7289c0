/* Half precision for the emulator: what kernels use of NVIDIA's header of this name. Stored in 16
 * bits, computed in float and rounded, as a GPU does for one operation. */
#pragma once

struct __align__(2) __half {
    _Float16 value;
    __half() = default;
    __half(float x) : value((_Float16)x) {}
    operator float() const { return (float)value; }
};
struct __align__(4) __half2 { __half x, y; };
typedef __half half;
typedef __half2 half2;

inline float __half2float(__half h) { return (float)h.value; }
inline __half __float2half(float x) { return __half(x); }
inline __half __float2half_rn(float x) { return __half(x); }
inline __half2 __halves2half2(__half x, __half y) { return {x, y}; }
inline __half2 __float2half2_rn(float x) { return {__half(x), __half(x)}; }
inline __half2 __floats2half2_rn(float x, float y) { return {__half(x), __half(y)}; }
inline __half2 __float22half2_rn(float2 v) { return {__half(v.x), __half(v.y)}; }
inline float2 __half22float2(__half2 v) { return {(float)v.x, (float)v.y}; }
inline float __low2float(__half2 v) { return (float)v.x; }
inline float __high2float(__half2 v) { return (float)v.y; }
inline unsigned short __half_as_ushort(__half h) { return (unsigned short)emulator_bits(h.value); }
inline __half __ushort_as_half(unsigned short bits) {
    __half h;
    h.value = emulator_value<_Float16>(bits);
    return h;
}
inline __half __low2half(__half2 v) { return v.x; }
inline __half __high2half(__half2 v) { return v.y; }
inline __half2 __half2half2(__half h) { return {h, h}; }
EMULATOR_NARROW(__half, __half2)
