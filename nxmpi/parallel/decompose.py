"""Who owns what: integers only, no communication."""


def block_range(n: int, size: int, rank: int) -> tuple[int, int]:
    """Return the half-open range of ``n`` items that ``rank`` of ``size`` owns.

    Ranges are contiguous, in rank order, and differ in length by at most one;
    the first ``n % size`` ranks own the longer ones. Ranks beyond ``n`` own none.
    """
    length, longer = divmod(n, size)
    start = rank * length + min(rank, longer)
    return start, start + length + (rank < longer)
