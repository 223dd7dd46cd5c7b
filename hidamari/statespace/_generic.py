"""Linear algebra that holds for every stationary linear-Gaussian state, whatever the kernel."""

from math import factorial

import numpy as np

__all__ = [
    "TERMS",
    "block_diagonal",
    "discretise",
    "driving_noise",
    "durations",
    "kronecker",
    "rotation",
    "spectrum",
]

TERMS = 26  # of the series below: at |F| h <= 1 the last is 2^26 / 26! < 1e-18


def durations(dt: np.ndarray, lowest: float = -np.inf) -> np.ndarray:
    """Return `dt` as a float64 vector, or raise the ValueError that says what is wrong with it."""
    dt = np.asarray(dt, dtype=np.float64)
    if dt.ndim != 1:
        raise ValueError(f"dt must have shape (S,), got {dt.shape}")
    bad = ~np.isfinite(dt) | (dt < lowest)
    if bad.any():
        first = int(np.argmax(bad))
        allowed = "finite" if lowest < 0 else "finite and not negative"
        raise ValueError(f"dt must be {allowed}, got {dt[first]} at index {first}")
    return dt


def kronecker(X: np.ndarray, Y: np.ndarray) -> np.ndarray:
    """Return the Kronecker products of the last two axes, (..., a, b), (..., c, d) -> (..., a c, b d)."""
    product = X[..., :, None, :, None] * Y[..., None, :, None, :]
    return product.reshape(*product.shape[:-4], X.shape[-2] * Y.shape[-2], X.shape[-1] * Y.shape[-1])


def block_diagonal(X: np.ndarray, Y: np.ndarray) -> np.ndarray:
    """Return the matrices with X and Y on the diagonal, (..., a, a), (..., c, c) -> (..., a + c, a + c)."""
    a, c = X.shape[-1], Y.shape[-1]
    out = np.zeros((*X.shape[:-2], a + c, a + c))
    out[..., :a, :a] = X
    out[..., a:, a:] = Y
    return out


def rotation(frequency: float, dt: np.ndarray) -> np.ndarray:
    """Return the rotations by 2 pi frequency dt, (S,) -> (S, 2, 2)."""
    turns = frequency * dt
    angle = 2.0 * np.pi * (turns - np.rint(turns))  # whole turns go first: the cosine keeps its digits
    cosine, sine = np.cos(angle), np.sin(angle)
    return np.stack([cosine, -sine, sine, cosine], axis=-1).reshape(*dt.shape, 2, 2)


def driving_noise(F: np.ndarray, P: np.ndarray) -> np.ndarray:
    """Return D = -(F P + P F'), with the entries that are rounding of that sum set to 0."""
    D = -(F @ P + P @ F.T)
    size = np.abs(F) @ np.abs(P)
    D[np.abs(D) <= 8.0 * len(F) * np.finfo(float).eps * (size + size.T)] = 0.0
    return D


def discretise(F: np.ndarray, D: np.ndarray, dt: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return A = exp(F dt) and Q = int_0^dt exp(F s) D exp(F s)' ds, both (S, d, d).

    Both are summed as power series over h = dt / 2^n with |F| h <= 1 and doubled n times by
    A(2h) = A(h)^2, Q(2h) = A(h) Q(h) A(h)' + Q(h), which only adds covariances: nothing cancels, and small
    steps keep the digits of their smallest variances.
    """
    d, norm = len(F), np.abs(F).sum(axis=1).max()
    doublings = np.maximum(np.frexp(norm)[1] + np.frexp(dt)[1], 0) if norm > 0.0 else np.zeros(len(dt), int)
    h = np.ldexp(dt, -doublings)
    A_terms, Q_terms = [np.eye(d)], [D]
    for _ in range(TERMS):
        A_terms.append(F @ A_terms[-1])
        Q_terms.append(F @ Q_terms[-1] + Q_terms[-1] @ F.T)
    A, Q = np.zeros((len(h), d * d)), np.zeros((len(h), d * d))
    power = np.ones_like(h)
    for k in range(TERMS + 1):
        A += power[:, None] * (A_terms[k].ravel() / factorial(k))
        power = power * h
        Q += power[:, None] * (Q_terms[k].ravel() / factorial(k + 1))
    A, Q = A.reshape(-1, d, d), Q.reshape(-1, d, d)
    for n in range(int(doublings.max(initial=0))):
        more = doublings > n
        Q[more] += A[more] @ Q[more] @ A[more].swapaxes(1, 2)
        A[more] = A[more] @ A[more]
    return A, (Q + Q.swapaxes(1, 2)) / 2.0


def spectrum(F: np.ndarray, D: np.ndarray, H: np.ndarray, frequency: np.ndarray) -> np.ndarray:
    """Return S(f) = h D h*, h = H (2 pi i f - F)^-1, which is 2 Re[h P H'] without its cancellation."""
    omega = 2.0 * np.pi * frequency.ravel()
    resolvent = 1j * omega[:, None, None] * np.eye(len(F)) - F
    h = np.linalg.solve(resolvent.swapaxes(1, 2), H[:, None].astype(complex))[..., 0]
    return np.einsum("si,ij,sj->s", h, D, h.conj()).real.reshape(frequency.shape)
