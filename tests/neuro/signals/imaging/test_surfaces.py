"""Nesting of fsaverage against the mesh that nilearn brings: no table, only geometry."""

import numpy as np
import pytest

from nbkit.neuro.signals.imaging.surfaces import (
    coarser_triangles,
    mesh,
    nested_vertices,
    pool_vertices,
    sphere,
    spread_vertices,
    surface_of,
)


def neighbours(triangles, count):
    found = [set() for _ in range(count)]
    for a, b, c in triangles:
        found[a] |= {b, c}
        found[b] |= {a, c}
        found[c] |= {a, b}
    return found


@pytest.mark.parametrize("side", ["left", "right"])
def test_every_new_vertex_lies_between_exactly_two_old(side):
    points, triangles = mesh("fsaverage5", "sphere", side)
    beside = neighbours(triangles, len(points))
    for vertex in range(2562, 10242):
        old = [other for other in beside[vertex] if other < 2562]
        assert len(old) == 2
        middle = points[old].mean(axis=0)
        middle *= 100 / np.linalg.norm(middle)
        assert np.linalg.norm(points[vertex] - middle) < 0.05 * np.linalg.norm(points[old[0]] - points[old[1]])
    assert not any(other < 2562 for vertex in range(2562) for other in beside[vertex])


def test_coarser_triangles_undo_a_subdivision():
    old = mesh("fsaverage4", "sphere")[1]
    edges = {}
    for a, b, c in old:
        for pair in ((a, b), (b, c), (c, a)):
            edges.setdefault(tuple(sorted(pair)), 2562 + len(edges))
    fine = []
    for a, b, c in old:
        ab, bc, ca = (edges[tuple(sorted(pair))] for pair in ((a, b), (b, c), (c, a)))
        fine += [(a, ab, ca), (b, bc, ab), (c, ca, bc), (ab, bc, ca)]
    again = coarser_triangles(np.array(fine))
    assert {frozenset(t) for t in again.tolist()} == {frozenset(t) for t in old.tolist()}
    with pytest.raises(ValueError, match="no subdivision"):
        coarser_triangles(old[:-3])


@pytest.mark.parametrize(("surface", "count"), [("fsaverage3", 642), ("fsaverage4", 2562)])
def test_a_coarser_mesh_is_closed_and_faces_outwards(surface, count):
    points, triangles = mesh(surface, "sphere")
    assert len(points) == count and len(triangles) == 2 * count - 4  # Euler
    corners = points[triangles]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    way = np.sign((normals * corners.mean(axis=1)).sum(axis=1))
    fine, faces = mesh("fsaverage5", "sphere")
    corner = fine[faces[0]]
    assert set(way) == {np.sign(np.cross(corner[1] - corner[0], corner[2] - corner[0]) @ corner.mean(axis=0))}


def test_pooling_by_index_takes_the_first_of_each_hemisphere():
    values = np.arange(20484.0)
    assert np.array_equal(pool_vertices(values), np.r_[0:2562, 10242:12804])
    assert np.array_equal(pool_vertices(values), nested_vertices())
    assert pool_vertices(values[:, None], axis=0).shape == (5124, 1)


def test_pooling_over_neighbours_is_their_mean_and_leaves_nan_out():
    values = np.random.default_rng(0).normal(size=20484)
    beside = neighbours(mesh("fsaverage5", "sphere", "right")[1], 10242)
    vertex = 77
    own = [10242 + other for other in {vertex, *beside[vertex]}]
    assert pool_vertices(values, how="neighbours")[2562 + vertex] == pytest.approx(values[own].mean())
    values[own[1:]] = np.nan
    assert pool_vertices(values, how="neighbours")[2562 + vertex] == pytest.approx(values[own[0]])
    smooth = sphere()[:, 1]
    assert np.corrcoef(pool_vertices(smooth, how="neighbours"), pool_vertices(smooth))[0, 1] > 0.9999


def test_spreading_keeps_the_shared_and_takes_the_near():
    values = sphere("fsaverage4")[:, 2]
    spread = spread_vertices(values)
    assert np.array_equal(pool_vertices(spread), values)
    assert np.abs(spread - sphere()[:, 2]).max() < 6  # mm on a sphere of 100


def test_what_is_no_surface_is_refused():
    assert surface_of(20484) == "fsaverage5"
    with pytest.raises(ValueError, match="20000 vertices is no complete fsaverage surface"):
        surface_of(20000)
    with pytest.raises(ValueError, match="finer"):
        nested_vertices("fsaverage4", "fsaverage5")
    with pytest.raises(ValueError, match="how='mean'"):
        pool_vertices(np.zeros(20484), how="mean")
    with pytest.raises(ValueError, match="does not come with nilearn"):
        mesh("fsaverage6")
