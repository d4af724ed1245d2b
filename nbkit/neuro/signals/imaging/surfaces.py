"""fsaverage surfaces: their meshes, and the vertices that a coarse and a fine surface share.

The fsaverage surfaces are nested: a subdivision keeps the vertices first and adds one on every edge, so fsaverage4 is
the first 2562 vertices of each hemisphere of fsaverage5. Arrays hold the left hemisphere, then the right.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

VERTICES = {"fsaverage3": 642, "fsaverage4": 2562, "fsaverage5": 10242, "fsaverage6": 40962}  # per hemisphere
HEMISPHERES = ("left", "right")


def surface_of(n_vertices: int) -> str:
    """Return the name of the surface with this number of vertices in both hemispheres.

    Raises
    ------
    ValueError
        If there is none.

    Examples
    --------
    >>> surface_of(5124)
    'fsaverage4'
    """
    for name, count in VERTICES.items():
        if n_vertices == 2 * count:
            return name
    known = ", ".join(f"{2 * count} ({name})" for name, count in VERTICES.items())
    raise ValueError(f"A map of {n_vertices} vertices is no complete fsaverage surface; known are {known}.")


def nested_vertices(fine: str = "fsaverage5", coarse: str = "fsaverage4") -> np.ndarray:
    """Return the indices of a coarser surface's vertices in a finer one, both hemispheres.

    Returns
    -------
    index : int array of shape (2 * vertices of a coarse hemisphere,)

    Raises
    ------
    ValueError
        If a surface is unknown, or the second is finer than the first.
    """
    n_fine, n_coarse = (_count(name) for name in (fine, coarse))
    if n_coarse > n_fine:
        raise ValueError(f"Surface {coarse} is finer than {fine}; give the coarser one second.")
    one = np.arange(n_coarse)
    return np.concatenate([one, n_fine + one])


def pool_vertices(values: np.ndarray, coarse: str = "fsaverage4", how: str = "index", axis: int = -1) -> np.ndarray:
    """Convert a map from a finer fsaverage surface to a coarser one.

    Parameters
    ----------
    values : ndarray
        With the vertices of both hemispheres along ``axis``.
    coarse : str
        Name of the coarser surface.
    how : {"index", "neighbours"}
        Use the value of the shared vertex, or the mean of it and its neighbours on the finer surface, without NaN
        values. "neighbours" needs the mesh of fsaverage5, which comes with nilearn.
    axis : int

    Returns
    -------
    pooled : ndarray
        With the vertices of the coarser surface along ``axis``.

    Raises
    ------
    ValueError
        If the method or the number of vertices is unknown.
    """
    values = np.asarray(values)
    fine = surface_of(values.shape[axis])
    index = nested_vertices(fine, coarse)
    if how == "index":
        return np.take(values, index, axis=axis)
    if how != "neighbours":
        raise ValueError(f"Unknown {how=}; it may be 'index' or 'neighbours'.")
    matrix = _neighbour_matrix(fine)[index]
    moved = np.moveaxis(values, axis, 0)
    flat = moved.reshape(len(moved), -1).astype(np.float64)
    known = np.isfinite(flat)
    total, count = matrix @ np.where(known, flat, 0.0), matrix @ known.astype(np.float64)
    with np.errstate(invalid="ignore"):
        mean = np.where(count > 0, total / count, np.nan)
    mean = mean.astype(np.result_type(values.dtype, np.float32)).reshape(len(index), *moved.shape[1:])
    return np.moveaxis(mean, 0, axis)


def spread_vertices(values: np.ndarray, fine: str = "fsaverage5") -> np.ndarray:
    """Convert a map to a finer surface for plots: each vertex gets the value of the nearest shared one.

    Parameters
    ----------
    values : ndarray of shape (..., vertices)
        Values of both hemispheres.
    fine : str
        Name of the finer surface.

    Returns
    -------
    spread : ndarray of shape (..., vertices)
    """
    values = np.asarray(values)
    coarse = surface_of(values.shape[-1])
    if coarse == fine:
        return values
    return values[..., _nearest_shared(fine, coarse)]


@lru_cache(maxsize=4)
def sphere(surface: str = "fsaverage5") -> np.ndarray:
    """Return the positions of both hemispheres' vertices on the sphere, (vertices, 3); x right, y front, z up.

    Surfaces up to fsaverage5 come with nilearn and need no download.
    """
    n_vertices = _count(surface)
    both = [_mesh_arrays("sphere", side)[0] for side in HEMISPHERES]
    if n_vertices > len(both[0]):
        raise ValueError(f"No mesh: {surface} does not come with nilearn; the finest surface that does is fsaverage5.")
    return np.concatenate([one[:n_vertices] for one in both])


def mesh(surface: str = "fsaverage5", kind: str = "infl", side: str = "left") -> tuple[np.ndarray, np.ndarray]:
    """Return the vertices and triangles of a hemisphere.

    Parameters
    ----------
    surface : {"fsaverage3", "fsaverage4", "fsaverage5"}
        Triangles of the coarser ones are computed from the nesting.
    kind : {"infl", "pial", "white", "sphere", "flat"}
    side : {"left", "right"}

    Returns
    -------
    points : ndarray of shape (vertices, 3)
        In mm.
    triangles : int array of shape (triangles, 3)
    """
    points, triangles = _mesh_arrays(kind, side)
    n_vertices = _count(surface)
    if n_vertices > len(points):
        raise ValueError(f"No mesh: {surface} does not come with nilearn; the finest surface that does is fsaverage5.")
    while triangles.max() >= n_vertices:
        triangles = coarser_triangles(triangles)
    return points[:n_vertices], triangles


@lru_cache(maxsize=4)
def curvature(surface: str = "fsaverage5") -> np.ndarray:
    """Return the curvature of both hemispheres' vertices, shape (vertices,): above 0 in a sulcus, below 0 on a gyrus.

    It comes with nilearn; coarser surfaces keep the values of their vertices.
    """
    import nibabel
    from nilearn.datasets import fetch_surf_fsaverage

    surfaces = fetch_surf_fsaverage("fsaverage5")
    both = [np.asarray(nibabel.load(surfaces[f"curv_{side}"]).darrays[0].data, np.float64) for side in HEMISPHERES]
    n_vertices = _count(surface)
    if n_vertices > len(both[0]):
        raise ValueError(f"No curvature: {surface} does not come with nilearn; the finest surface is fsaverage5.")
    return np.concatenate([one[:n_vertices] for one in both])


def coarser_triangles(triangles: np.ndarray) -> np.ndarray:
    """Undo one subdivision of a nested mesh.

    Each new vertex is on one edge of the coarser mesh and is connected to the two ends of that edge. Three new vertices
    that form a triangle are the middle of a coarser triangle; its corners are the ends that two of them share.

    Parameters
    ----------
    triangles : int array of shape (triangles, 3)

    Returns
    -------
    coarser : int array of shape (triangles / 4, 3)

    Raises
    ------
    ValueError
        If the mesh is not a subdivision.
    """
    n_old = (int(triangles.max()) + 1 + 6) // 4  # a closed triangle mesh of a sphere: V' = 4 V - 6
    new = triangles >= n_old
    middles = triangles[new.all(axis=1)]
    pairs = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    pairs = pairs[(pairs[:, 0] >= n_old) & (pairs[:, 1] < n_old)]
    pairs = np.unique(pairs, axis=0)
    if len(pairs) != 2 * (triangles.max() + 1 - n_old):
        raise ValueError(
            f"A mesh of {len(triangles)} triangles is no subdivision: each new vertex must be between two old."
        )
    ends = pairs[:, 1].reshape(-1, 2)  # row v: the two old vertices next to the new vertex n_old + v
    a, b, c = (ends[middles[:, corner] - n_old] for corner in range(3))
    return np.stack([_shared(c, a), _shared(a, b), _shared(b, c)], axis=1)


def _shared(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the old vertex that both edges share, for each row."""
    same = first[:, :, None] == second[:, None, :]
    return first[np.arange(len(first)), same.any(axis=2).argmax(axis=1)]


@lru_cache(maxsize=16)
def _mesh_arrays(kind: str, side: str) -> tuple[np.ndarray, np.ndarray]:
    import nibabel
    from nilearn.datasets import fetch_surf_fsaverage

    if side not in HEMISPHERES:
        raise ValueError(f"Unknown {side=}; it may be {' or '.join(HEMISPHERES)}.")
    surfaces = fetch_surf_fsaverage("fsaverage5")
    name = f"{kind}_{side}"
    if name not in surfaces:
        kinds = sorted(key.removesuffix("_left") for key in surfaces if key.endswith("_left"))
        raise ValueError(f"Unknown {kind=}; nilearn has {', '.join(kinds)}.")
    points, triangles = (array.data for array in nibabel.load(surfaces[name]).darrays)
    return np.asarray(points, np.float64), np.asarray(triangles, np.int64)


@lru_cache(maxsize=2)
def _neighbour_matrix(surface: str):  # noqa: ANN202 - scipy is imported where it is used
    """Return a sparse matrix with ones where two vertices share an edge or are equal, both hemispheres."""
    from scipy.sparse import block_diag, coo_matrix, eye

    blocks = []
    for side in HEMISPHERES:
        points, triangles = mesh(surface, "sphere", side)
        edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
        edges = np.unique(np.concatenate([edges, edges[:, ::-1]]), axis=0)
        shape = (len(points), len(points))
        blocks.append(coo_matrix((np.ones(len(edges)), edges.T), shape=shape) + eye(len(points)))
    return block_diag(blocks, format="csr")


@lru_cache(maxsize=4)
def _nearest_shared(fine: str, coarse: str) -> np.ndarray:
    from scipy.spatial import cKDTree

    n_fine, n_coarse = _count(fine), _count(coarse)
    places, found = sphere(fine), []
    for side in range(2):
        own = places[side * n_fine : (side + 1) * n_fine]
        found.append(cKDTree(own[:n_coarse]).query(own)[1] + side * n_coarse)
    return np.concatenate(found)


def _count(surface: str) -> int:
    if surface not in VERTICES:
        raise ValueError(f"Surface {surface!r} is unknown; it may be {', '.join(VERTICES)}.")
    return VERTICES[surface]
