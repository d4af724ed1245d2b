"""Parcellations of a surface, and means over parcels.

Labels are 0 outside the parcels (medial wall) and 1 to n inside, left hemisphere first, as in the files. The name of an
atlas always means the real one: if it is not available, an error is raised and nothing replaces it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from nbkit.neuro.signals.imaging.surfaces import VERTICES, nested_vertices, surface_of

SCHAEFER_PARCELS = (100, 200, 300, 400, 500, 600, 800, 1000)
_CBIG = (
    "https://raw.githubusercontent.com/ThomasYeoLab/CBIG/v0.14.3-Update_Yeo2011_Schaefer2018_labelname/"
    "stable_projects/brain_parcellation/Schaefer2018_LocalGlobal/Parcellations/FreeSurfer5.3/fsaverage5/label/"
)


@dataclass(frozen=True)
class Atlas:
    """A parcellation of both hemispheres.

    Attributes
    ----------
    name : str
    labels : int array of shape (vertices,)
        Number of each vertex's parcel, from 1; 0 for none.
    parcels : tuple of str
        Names of the parcels, parcel 1 first.
    networks : tuple of str
        Network of each parcel.
    """

    name: str
    labels: np.ndarray = field(repr=False)
    parcels: tuple[str, ...] = field(repr=False)
    networks: tuple[str, ...] = field(repr=False)

    @property
    def surface(self) -> str:
        """Name of the surface of the labels."""
        return surface_of(len(self.labels))

    @property
    def network_names(self) -> tuple[str, ...]:
        """Unique network names, in the order of their first parcels."""
        return tuple(dict.fromkeys(self.networks))

    def on(self, surface: str) -> Atlas:
        """Return the atlas on a coarser surface, whose vertices keep their labels."""
        if surface == self.surface:
            return self
        return Atlas(self.name, self.labels[nested_vertices(self.surface, surface)], self.parcels, self.networks)

    def means(self, values: np.ndarray, keep: np.ndarray | None = None) -> np.ndarray:
        """Return the mean over the vertices of each parcel.

        Parameters
        ----------
        values : ndarray of shape (..., vertices)
        keep : bool array of shape (vertices,), optional
            False for vertices to leave out, such as constant ones.

        Returns
        -------
        means : ndarray of shape (..., parcels)
            NaN for a parcel without vertices.

        Raises
        ------
        ValueError
            If the values are on another surface.
        """
        values = np.asarray(values)
        if values.shape[-1] != len(self.labels):
            raise ValueError(
                f"The values have {values.shape[-1]} vertices, but {self.name} has {len(self.labels)} "
                f"({self.surface}); convert one of them with pool_vertices or Atlas.on."
            )
        used = self.labels > 0
        if keep is not None:
            used &= np.asarray(keep, bool)
        order = np.flatnonzero(used)[self.labels[used].argsort(kind="stable")]
        numbers, starts, counts = np.unique(self.labels[order], return_index=True, return_counts=True)
        means = np.full((*values.shape[:-1], len(self.parcels)), np.nan)
        if len(order):
            sums = np.add.reduceat(values[..., order].astype(np.float64), starts, axis=-1)
            means[..., numbers - 1] = sums / counts
        return means

    def spread(self, values: np.ndarray, outside: float = np.nan) -> np.ndarray:
        """Return a map with each parcel's value at its vertices, and ``outside`` elsewhere, for plots.

        Parameters
        ----------
        values : ndarray of shape (..., parcels)
        """
        values = np.asarray(values, float)
        if values.shape[-1] != len(self.parcels):
            raise ValueError(f"There are {values.shape[-1]} values for the {len(self.parcels)} parcels of {self.name}.")
        padded = np.concatenate([np.full((*values.shape[:-1], 1), outside), values], axis=-1)
        return padded[..., self.labels]

    def network_means(self, values: np.ndarray) -> dict[str, float]:
        """Return the mean over the parcels of each network, without NaN values.

        Parameters
        ----------
        values : ndarray of shape (parcels,)
            Such as one r per parcel.
        """
        values, networks = np.asarray(values, float), np.array(self.networks)
        found = {}
        for name in self.network_names:
            own = values[networks == name]
            known = own[np.isfinite(own)]
            found[name] = float(known.mean()) if len(known) else float("nan")
        return found


def schaefer(parcels: int = 400, folder: str | Path | None = None, surface: str = "fsaverage5") -> Atlas:
    """Return the Schaefer (2018) atlas, 7 networks, on fsaverage5 or a coarser surface.

    Parameters
    ----------
    parcels : {100, 200, 300, 400, 500, 600, 800, 1000}
    folder : path, optional
        Folder with ``{lh,rh}.Schaefer2018_{parcels}Parcels_7Networks_order.annot`` of fsaverage5; by default they are
        downloaded from the authors' repository (ThomasYeoLab/CBIG) and cached.
    surface : {"fsaverage3", "fsaverage4", "fsaverage5"}

    Raises
    ------
    ValueError
        If the atlas does not have this number of parcels, or the files hold something else.
    FileNotFoundError
        If a file is missing and cannot be downloaded.
    """
    if parcels not in SCHAEFER_PARCELS:
        raise ValueError(f"Schaefer's atlas has no {parcels} parcels; it has {', '.join(map(str, SCHAEFER_PARCELS))}.")
    names = [f"{side}.Schaefer2018_{parcels}Parcels_7Networks_order.annot" for side in ("lh", "rh")]
    found = read_annotations(*(_annotation(name, folder) for name in names), name=f"Schaefer-{parcels}")
    if len(found.parcels) != parcels:
        raise ValueError(f"The files of Schaefer-{parcels} hold {len(found.parcels)} parcels; download them again.")
    return found.on(surface)


def read_annotations(left: str | Path, right: str | Path, name: str) -> Atlas:
    """Load an atlas from two FreeSurfer annotation files, whose first entry is the outside.

    Names such as ``7Networks_LH_Vis_1`` contain the network; otherwise, the network is the name of the parcel.
    """
    import nibabel

    labels, parcels = [], []
    for path in (left, right):
        own, _, entries = nibabel.freesurfer.read_annot(str(path))
        if len(own) not in VERTICES.values():
            raise ValueError(
                f"{path} has {len(own)} vertices; a hemisphere of fsaverage 3 to 6 has {list(VERTICES.values())}."
            )
        own = np.where(own > 0, own, 0)
        labels.append(np.where(own > 0, own + len(parcels), 0))
        parcels += [entry.decode() for entry in entries[1:]]
    networks = tuple(_network(parcel) for parcel in parcels)
    return Atlas(name, np.concatenate(labels).astype(np.int32), tuple(parcels), networks)


def _network(parcel: str) -> str:
    parts = parcel.split("_")
    return parts[2] if len(parts) > 2 and parts[0].endswith("Networks") else parcel


def _annotation(name: str, folder: str | Path | None) -> Path:
    if folder is not None:
        path = Path(folder, name)
        if not path.is_file():
            raise FileNotFoundError(f"{path} does not exist; give the folder that holds the annotations of fsaverage5.")
        return path
    import pooch

    try:
        cache = pooch.os_cache("nbkit") / "schaefer_fsaverage5"
        return Path(pooch.retrieve(_CBIG + name, known_hash=None, fname=name, path=cache, progressbar=False))
    except Exception as error:  # requests raises many types
        raise FileNotFoundError(
            f"{name} could not be downloaded from github.com/ThomasYeoLab/CBIG ({type(error).__name__}). Nothing "
            "replaces the real atlas: download the two files elsewhere and give their folder."
        ) from error
