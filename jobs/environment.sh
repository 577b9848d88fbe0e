# What jobs need at this site: edit once. Each script of this folder reads it on its first node; what
# is set already, by `nxmpi submit` or in the shell that submits, stands.

# --- the program: modules of an MPI and a parallel HDF5, and the virtual environment
# module load openmpi hdf5-parallel
# source "$HOME/nxmpi/.venv/bin/activate"

set -euo pipefail # what sites and conda put in here uses variables that are not set

# --- how ranks are started: a type that `srun --mpi=list` names (pmix for Open MPI; pmi2 or
# cray_shasta for MPICH and its kin), or mpiexec to leave it to that of Open MPI
: "${NXMPI_MPI:=pmix}"

# --- ranks of a node: as many as --ntasks-per-node or --ntasks says, else one for each core of the
# job, of which one may be two or more CPUs for Slurm
asked=${SLURM_NTASKS_PER_NODE:-${SLURM_NTASKS:+$((SLURM_NTASKS / SLURM_JOB_NUM_NODES))}}
if [[ ! ${NXMPI_RANKS_PER_NODE:=$asked} ]]; then
  node=$(scontrol show node "$SLURMD_NODENAME")
  of_node() { sed -n "s/.*\b$1=\([0-9]*\).*/\1/p" <<<"$node"; }
  cores=$((SLURM_CPUS_ON_NODE * $(of_node Sockets) * $(of_node CoresPerSocket) / $(of_node CPUTot)))
  ranks=$((SLURM_CPUS_ON_NODE / ${SLURM_CPUS_PER_TASK:-1}))
  NXMPI_RANKS_PER_NODE=$((ranks < cores ? ranks : cores))
fi

# --- compiled kernels, on a disk of the node: a shared one is slow, and not safe for them
: "${NUMBA_CACHE_DIR=${TMPDIR:-/tmp}/nxmpi-numba-$UID}"

# --- folder for volumes that memory does not hold; beside the results by default
: "${NXMPI_SCRATCH:=}"

# --- a job that was stopped before its end is to go on: "requeue" puts it back into the queue, and
# where that is refused, or with "submit", another takes its place; so many times at most
: "${NXMPI_GO_ON:=requeue}"
: "${NXMPI_GO_ON_MOST:=20}"

# --- threads of a rank
export OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1}
export OPENBLAS_NUM_THREADS=1
export NUMBA_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1}
export NUMBA_CACHE_DIR
