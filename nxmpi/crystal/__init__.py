"""Geometry and symmetry: the one place where the conventions are stated.

Laboratory axes: x along the beam, z up, right-handed. Rotations are right-handed, active and
act on column vectors. Reciprocal vectors carry no 2 pi: ``|G| = 1/d`` and ``Q = 2 pi G``.
``B = inv(A).T`` (Busing & Levy, Acta Cryst. 22, 457 (1967)), the columns of A being a, b, c.
A detector point (x, y) counts pixels from the outer corner of pixel 0: the centre of pixel i
is i + 0.5. The rotation during a frame is represented by its middle. Volumes are indexed
[l, k, h] in files and in memory. Å, 1/Å, mm and degrees at every public boundary.
"""
