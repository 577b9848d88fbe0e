"""Sums over the images of voxels; places are counted from the voxel of 0 0 0."""

from numba import njit

from nxmpi._typing import I4, I8


@njit(cache=True, nogil=True)
def add_planar(
    counts: I8, norm: I8, matrices: I8, low: I8, high: I8, first: int, distinct: bool,
    sum_counts: I8, sum_norm: I8, images: I4,
) -> None:  # fmt: skip
    """Add the images of every voxel that operators make which keep l or change its sign.

    Parameters
    ----------
    counts, norm : (2, n, n_k, n_h) int64
        Planes l = first, first + 1, … and those of -l; of l = 0 the first is used.
    matrices : (m, 3, 3) int64
        A group, on columns (h, k, l).
    low, high : (3,) int64
        First and last voxel along h, k, l; nothing is added from outside.
    first : int
        The least l, not below 0.
    distinct : bool
        Count every image once; otherwise as often as operators lead to it.
    sum_counts, sum_norm : (2, n, n_k, n_h) int64
        Overwritten by the sums.
    images : (2, n, n_k, n_h) int32
        Overwritten by the number of images that have a norm.

    Notes
    -----
    Voxels one of whose images came before take its sums: of an orbit only one is added up.
    """
    n_k, n_h = counts.shape[2:]
    for p in range(counts.shape[1]):
        for s in range(2):
            l = first + p if s == 0 else -first - p
            if (s == 1 and l == 0) or l < low[2] or l > high[2]:
                continue
            for k_index in range(n_k):
                k = k_index + low[1]
                for h_index in range(n_h):
                    h = h_index + low[0]
                    total_counts, total_norm, total_images, same = 0, 0, 0, 0
                    for g in range(matrices.shape[0]):
                        a = matrices[g]
                        h_image = a[0, 0] * h + a[0, 1] * k + a[0, 2] * l
                        k_image = a[1, 0] * h + a[1, 1] * k + a[1, 2] * l
                        l_image = a[2, 2] * l
                        if (
                            h_image < low[0] or h_image > high[0] or k_image < low[1]
                            or k_image > high[1] or l_image < low[2] or l_image > high[2]
                        ):  # fmt: skip
                            continue
                        side = 1 if l_image < 0 else 0
                        i, j = k_image - low[1], h_image - low[0]
                        if side < s or (
                            side == s and (i < k_index or (i == k_index and j < h_index))
                        ):
                            total_counts = sum_counts[side, p, i, j]
                            total_norm = sum_norm[side, p, i, j]
                            total_images = images[side, p, i, j]
                            same = 1
                            break
                        total_counts += counts[side, p, i, j]
                        total_norm += norm[side, p, i, j]
                        if norm[side, p, i, j] > 0:
                            total_images += 1
                        if side == s and i == k_index and j == h_index:
                            same += 1
                    if distinct and same > 1:
                        total_counts //= same
                        total_norm //= same
                        total_images //= same
                    sum_counts[s, p, k_index, h_index] = total_counts
                    sum_norm[s, p, k_index, h_index] = total_norm
                    images[s, p, k_index, h_index] = total_images


@njit(cache=True, nogil=True)
def divide_by_stabilizers(
    matrices: I8, low: I8, first: int, sum_counts: I8, sum_norm: I8, images: I4
) -> None:  # fmt: skip
    """Divide sums over all operators by the number of those that map the voxel to itself.

    Parameters
    ----------
    matrices : (m, 3, 3) int64
        The whole group.
    low : (3,) int64
        The first voxel along h and k; the last number is not looked at.
    first : int
        The first l.
    sum_counts, sum_norm : (n, n_k, n_h) int64
        In place; the divisions leave no rest.
    images : (n, n_k, n_h) int32
    """
    for p in range(sum_counts.shape[0]):
        l = first + p
        for i in range(sum_counts.shape[1]):
            k = i + low[1]
            for j in range(sum_counts.shape[2]):
                h = j + low[0]
                if images[p, i, j] == 0:
                    continue
                n = 0
                for g in range(matrices.shape[0]):
                    a = matrices[g]
                    if (
                        a[0, 0] * h + a[0, 1] * k + a[0, 2] * l == h
                        and a[1, 0] * h + a[1, 1] * k + a[1, 2] * l == k
                        and a[2, 0] * h + a[2, 1] * k + a[2, 2] * l == l
                    ):
                        n += 1
                if n > 1:
                    sum_counts[p, i, j] //= n
                    sum_norm[p, i, j] //= n
                    images[p, i, j] //= n
