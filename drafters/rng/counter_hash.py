"""Counter-based hashing on int64 with wrap-around: the same bits on every device. Source: SplitMix64 (Steele et al. 2014)."""

from __future__ import annotations

from torch import Tensor

MASK = (1 << 64) - 1


def signed(value: int) -> int:
    """The int64 with the low 64 bits of `value`."""
    value &= MASK
    return value - (1 << 64) if value >> 63 else value


def shift(x: Tensor, bits: int) -> Tensor:
    """Logical right shift of int64."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


FIRST, SECOND, STEP = signed(0xBF58476D1CE4E5B9), signed(0x94D049BB133111EB), signed(0x9E3779B97F4A7C15)  # odd


def mix(x: Tensor) -> Tensor:
    """The finaliser of SplitMix64 on int64: a bijection."""
    x = (x ^ shift(x, 30)) * FIRST
    x = (x ^ shift(x, 27)) * SECOND
    return x ^ shift(x, 31)


def mix_int(x: int) -> int:
    """`mix` on one Python integer in [0, 2^64)."""
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


def uniform(bits: Tensor) -> Tensor:
    """fp64 in [0, 1), 53 random bits, from hashed int64."""
    return shift(bits, 11).double() * 2.0**-53


def exponential(bits: Tensor) -> Tensor:
    """fp64 Exp(1) of 63 random bits, from hashed int64: in [2^-64, 45), never 0 and never infinite.

    E = -log(1 - u) with u = (n + 1/2) 2^-63, resolved to 2^-63 near 0, where tokens of small probability win races.
    Only integer operations and IEEE sums, products and quotients: a library's log may differ in the last bit between
    devices, and on one device between the body and the end of a vector.
    """
    n = shift(bits, 1)
    far = n >> 61 > 0  # u >= 1/4: 1 - u is the number to represent well, else u
    n = n ^ (far * ((1 << 63) - 1))
    small = (n >> 32).double() * 2.0**-31 + ((n & 0xFFFFFFFF).double() + 0.5) * 2.0**-63  # 1 - u or u, rounded once
    # 1 - u = 2^k (1 + f) with 1 + f in [sqrt(1/2), sqrt(2)): fp64's own exponent, its range shifted down
    stored = small.view(n.dtype) + _LOWER
    k = (((stored >> 52) - 1023) * far).double()
    f = (((stored & _MANTISSA) + _ROOT).view(small.dtype) - 1.0).where(far, -small)
    s = f / (f + 2.0)  # log(1 + f) = 2 atanh(s), |s| < 0.172: eleven terms leave 1e-18
    z = s * s
    series = z * _TERMS[0] + _TERMS[1]
    for term in _TERMS[2:]:
        series = series.mul_(z).add_(term)
    return (k * -0.6931471805599453).sub_(series.mul_(s))


_MANTISSA = (1 << 52) - 1
_ROOT = 0x3FE6A09E << 32  # bits of sqrt(1/2), rounded down
_LOWER = (0x3FF << 52) - _ROOT
_TERMS = [2.0 / (2 * power + 1) for power in range(10, -1, -1)]
