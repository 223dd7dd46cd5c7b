"""Joint draws from the posterior in jax, by perturbing and solving (Matheron's rule)."""

import jax
import jax.numpy as jnp
from jax import lax

from hidamari.statespace import _jax_covariance
from hidamari.statespace._jax_algebra import factor
from hidamari.statespace._jax_groups import group, ungroup
from hidamari.statespace.types import Sites, StateSpace

__all__ = ["draw"]


def draw(ss: StateSpace, sites: Sites, n: int, key: jax.Array) -> jax.Array:
    """n draws of f (n, T, K): f* + Sigma (j - J f* - e), f* from the prior and e ~ N(0, J).

    The covariances do not depend on the draw, and vmap leaves their recursions unbatched: done once.
    """
    T, (C, d) = len(ss.step), ss.m.shape
    G, L, A = factor(ss.Q), factor(ss.P), ss.A
    centred = ss._replace(m=jnp.zeros_like(ss.m))
    root = _root(sites.J)
    steps = (None, None) if len(A) == 1 else (A[jnp.maximum(ss.step, 0)], G[jnp.maximum(ss.step, 0)])

    def prior(noise):
        def body(x, row):
            start, e, A_t, G_t = row
            A_t, G_t = (A[0], G[0]) if A_t is None else (A_t, G_t)
            x = jnp.where(start, ss.m + _each(L, e), _each(A_t, x) + _each(G_t, e))
            return x, _each(ss.H, x).reshape(-1)

        return lax.scan(body, jnp.zeros_like(ss.m), (ss.step < 0, noise, *steps))[1]

    def one(key):
        first, second = jax.random.split(key)
        f = prior(jax.random.normal(first, (T, C, d), A.dtype))
        e = jax.random.normal(second, f.shape, A.dtype)
        if sites.J.ndim == 2:
            rhs = sites.j - sites.J * f - root * e
        else:
            rhs = sites.j - _each(sites.J, f) - _each(root, e)
        rows = group(centred, Sites(rhs, sites.J))
        new = _jax_covariance.update(rows.H, *_jax_covariance.forward(rows), rows.j, rows.J)
        mean, cov = _jax_covariance.moments(new, *_jax_covariance.backward(rows, new))
        return f + ungroup(mean, cov, sites.J.ndim == 2)[0]

    return jax.vmap(one)(jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(n)))


def _each(M: jax.Array, x: jax.Array) -> jax.Array:
    """M x for every pair of leading axes."""
    return jnp.matmul(M, x[..., None], precision="highest")[..., 0]


def _root(J: jax.Array) -> jax.Array:
    """A root of J, with a slope of zero where J is zero."""
    if J.ndim == 3:
        return factor(J)
    return jnp.where(J > 0, jnp.sqrt(jnp.where(J > 0, J, 1.0)), 0.0)
