"""The file layout: reads and writes open h5py groups, one module a group; knows no processes."""
