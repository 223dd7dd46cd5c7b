"""CPU time of the log marginal likelihood of a Matern process in noise and its gradient, beside others.

Times are irregular (every gap its own) or regular; the gradient is by the logarithms of lengthscale,
variance and noise. All programs do the same work in one run, in turns, and the least CPU time of each counts;
what they answer is checked to be equal. tinygp, dynamax and celerite2 join where they are installed.
celerite2 approximates the kernel by a damped oscillator; how far its value is off is shown. Last, the
programs that jax compiles for fifty series of different lengths are counted.
"""

import argparse
import json
import platform
import time
from pathlib import Path

import numpy as np

from hidamari.inference.likelihoods import Gaussian
from hidamari.inference.objective import GPModel, evidence, evidence_and_gradient
from hidamari.inference.series import lay_series
from hidamari.statespace import kalman
from hidamari.statespace.kernels import Matern, bank
from hidamari.statespace.types import Readings

THETA = np.log([0.7, 1.3, 0.09])
NAMES = ["kernel.lengthscale", "kernel.variance", "likelihood.variance"]
RESULTS = Path(__file__).parent / "results" / "gradient.json"


def problem(T, regular, rng):
    """Times and observations."""
    times = np.arange(T) * 0.02 if regular else np.sort(rng.uniform(0, T * 0.02, T))
    return times, np.sin(times) + 0.3 * rng.normal(size=T)


def compiled(order, times, y):
    """The one pass of the adjoint smoother."""
    lengthscale, variance, noise = np.exp(THETA)
    model, series = (
        GPModel(Matern(order, lengthscale, variance), Gaussian(noise), 0.0),
        lay_series(times, y).series,
    )

    def both():
        found = evidence_and_gradient(model, NAMES, series, n_threads=1)
        return found.value, found.gradient

    return (lambda: evidence(model, series, n_threads=1)), both


def of_jax(function):
    """Compiled value, and value with gradient, of a function of theta."""
    import jax

    value, both = jax.jit(function), jax.jit(jax.value_and_grad(function))
    theta = jax.numpy.asarray(THETA)

    def run_value():
        return float(value(theta))

    def run_both():
        found, slope = both(theta)
        return float(found), np.asarray(slope)

    return run_value, run_both


def scan(order, times, y):
    """Our recursion in jax, kernel matrices and all."""
    import jax.numpy as jnp

    series = lay_series(times, y).series

    def function(theta):
        a = jnp.exp(theta)
        ss = bank([Matern(order, a[0], a[1])], series.gaps, series.step)
        R = jnp.full((len(y), 1), 1.0) * a[2]
        return kalman.evidence(ss, Readings(jnp.asarray(y)[:, None], R), method="scan")

    return of_jax(function)


def tinygp(order, times, y):
    """Quasiseparable matrices."""
    import jax.numpy as jnp
    from tinygp import GaussianProcess
    from tinygp.kernels import quasisep

    kind = {0: quasisep.Exp, 1: quasisep.Matern32, 2: quasisep.Matern52}[order]

    def function(theta):
        a = jnp.exp(theta)
        kernel = kind(scale=a[0], sigma=jnp.sqrt(a[1]))
        return GaussianProcess(kernel, jnp.asarray(times), diag=a[2]).log_probability(jnp.asarray(y))

    return of_jax(function)


def dynamax(order, times, y):
    """A Kalman filter in jax; the matrices of order 1 in closed form."""
    import jax.numpy as jnp
    from dynamax.linear_gaussian_ssm import lgssm_filter
    from dynamax.linear_gaussian_ssm.inference import make_lgssm_params

    if order != 1:
        raise ImportError("matrices are written down for order 1 alone")
    gap = jnp.asarray(np.diff(times, prepend=times[0]))  # from dynamax 1.0 on, those of row t lead to it

    def function(theta):
        a = jnp.exp(theta)
        u = jnp.sqrt(3.0) / a[0] * gap
        e = jnp.exp(-u)
        A = jnp.stack([e * (1 + u), e * u, -e * u, e * (1 - u)], -1).reshape(-1, 2, 2)
        Q = a[1] * (jnp.eye(2) - A @ A.swapaxes(1, 2))
        params = make_lgssm_params(
            jnp.zeros(2), a[1] * jnp.eye(2), A, Q, jnp.array([[1.0, 0.0]]), a[2] * jnp.eye(1)
        )
        return lgssm_filter(params, jnp.asarray(y)[:, None]).marginal_loglik

    return of_jax(function)


def celerite2(order, times, y):
    """Semiseparable matrices; Matern-3/2 within eps = 1e-3."""
    import jax.numpy as jnp
    from celerite2.jax import GaussianProcess, terms

    if order != 1:
        raise ImportError("has Matern-3/2 alone")

    def function(theta):
        a = jnp.exp(theta)
        gp = GaussianProcess(terms.Matern32Term(sigma=jnp.sqrt(a[1]), rho=a[0], eps=1e-3), mean=0.0)
        gp.compute(jnp.asarray(times), diag=a[2] * jnp.ones(len(y)), check_sorted=False)
        return gp.log_likelihood(jnp.asarray(y))

    return of_jax(function)


PROGRAMS = {
    "hidamari": compiled,
    "hidamari, jax scan": scan,
    "tinygp": tinygp,
    "dynamax": dynamax,
    "celerite2": celerite2,
}


def cpu(work):
    """CPU seconds of a call, and its answer."""
    start = time.process_time()
    answer = work()
    return time.process_time() - start, answer


def compare(order, T, regular, rounds, rng):
    """Nanoseconds a row of every program, in turns, and how far the answers are apart."""
    times, y = problem(T, regular, rng)
    ready, rows = {}, {}
    for name, make in PROGRAMS.items():
        try:
            ready[name] = make(order, times, y)
            for work in ready[name]:
                work()
        except Exception as reason:  # a peer that is missing, or that this version of jax has left behind
            ready.pop(name, None)
            print(f"  {name} does not take part: {type(reason).__name__}: {str(reason)[:90]}")
    least = {name: [np.inf, np.inf] for name in ready}
    answers = {}
    for _ in range(rounds):
        for name, works in ready.items():
            for k, work in enumerate(works):
                seconds, answers[name, k] = cpu(work)
                least[name][k] = min(least[name][k], seconds)
    value, slope = answers["hidamari", 1]
    for name in ready:
        found, own = answers[name, 1]
        rows[name] = {
            "value_ns": least[name][0] / T * 1e9,
            "gradient_ns": least[name][1] / T * 1e9,
            "ratio": least[name][1] / least["hidamari"][1],
            "value_error": abs(found / value - 1),
            "gradient_error": float(np.abs(own - slope).max() / np.abs(slope).max()),
        }
        exact = name != "celerite2"
        assert rows[name]["value_error"] < (1e-9 if exact else 1e-2), (name, found, value)
        assert rows[name]["gradient_error"] < (1e-6 if exact else 1e-1), (name, own, slope)
    return rows


def programs_of_fifty_lengths(rng):
    """How many programs jax compiles for fifty lengths of series outside of traced functions."""
    import jax
    import jax.numpy as jnp

    compiled = []

    def listen(event, seconds, **_):
        if event.endswith("backend_compile_duration"):
            compiled.append(seconds)

    jax.monitoring.register_event_duration_secs_listener(listen)
    counts = []
    for T in (1000 + 17 * np.arange(50)).tolist():
        times, y = problem(T, False, rng)
        ss = bank([Matern(1, 0.7)], *_grid(times))
        sites = Readings(jnp.asarray(y)[:, None], jnp.full((T, 1), 0.1))
        before = len(compiled)
        float(kalman.evidence(ss, sites, method="scan"))
        counts.append(len(compiled) - before)
    return {"first": counts[0], "later": int(np.sum(counts[1:])), "lengths": len(counts)}


def _grid(times):
    """Gaps and steps of one series."""
    series = lay_series(times, np.zeros(len(times))).series
    return series.gaps, series.step


def show(rows):
    """Print the table of one problem."""
    print("\n| program | value, ns a row | with gradient | times ours | value off | gradient off |")
    print("|---|---|---|---|---|---|")
    for name, row in rows.items():
        times = f"{row['value_ns']:.0f} | {row['gradient_ns']:.0f} | {row['ratio']:.1f}"
        print(f"| {name} | {times} | {row['value_error']:.0e} | {row['gradient_error']:.0e} |", flush=True)


def main():
    """Run, print the table, keep the numbers."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lengths", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--json", type=Path, default=RESULTS)
    options = parser.parse_args()
    import jax

    rng = np.random.default_rng(0)
    table = {}
    with jax.enable_x64(True):
        for T in options.lengths:
            for order in (1, 2):
                for regular in (False, True):
                    grid = "regular" if regular else "irregular"
                    print(f"\nT = {T:,}, Matern-{2 * order + 1}/2, {grid}\n", flush=True)
                    rows = compare(order, T, regular, options.rounds, rng)
                    table[f"{T} {order} {grid}"] = rows
                    show(rows)
        lengths = programs_of_fifty_lengths(rng)
    print(f"\nPrograms compiled by jax for {lengths['lengths']} lengths: {lengths}")
    about = {"machine": platform.processor() or platform.machine(), "jax": jax.__version__}
    options.json.write_text(json.dumps({"about": about, "times": table, "lengths": lengths}, indent=1) + "\n")


if __name__ == "__main__":
    main()
