"""How does joblib, and scikit-learn with it, come to run on the cluster? By a backend called "ray".

    from minray.util.joblib import register_ray

    register_ray()
    with joblib.parallel_config(backend="ray", n_jobs=-1):
        search.fit(X, y)

joblib is not among minray's own requirements: `pip install joblib`.
"""

from __future__ import annotations


def register_ray() -> None:
    """Make `backend="ray"` (and `backend="minray"`) known to joblib. Raises: ImportError without joblib."""
    try:
        from joblib.parallel import register_parallel_backend
    except ImportError as error:
        raise ImportError("The joblib backend needs joblib 1.5 or later: pip install joblib") from error
    from minray.util.joblib.ray_backend import RayBackend

    register_parallel_backend("ray", RayBackend)
    register_parallel_backend("minray", RayBackend)


register_minray = register_ray

__all__ = ["register_minray", "register_ray"]
