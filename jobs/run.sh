# How a job runs its step, is stopped, and goes on. Nothing here depends on the site.
#
# $scan is the scan file of this job, and "$@" its options: sbatch --array=0-2 frames.sbatch A.nxs
# B.nxs C.nxs has a task for each scan, sbatch --array=1-3 transform.sbatch A.nxs one for each of f1,
# f2 and f3, which is in "${entry[@]}".

scans=()
while (($#)) && [[ $1 != -* ]]; do
  scans+=("$1")
  shift
done
task=${SLURM_ARRAY_TASK_ID:-}
this=${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}${task:+_$task} # one task has the number of the whole array
scan=${scans[${task:-0}]:-} entry=() options=("$@")
if ((${#scans[@]} == 1)) && [[ $task ]]; then
  scan=${scans[0]} entry=(--entry "f$task")
fi
if [[ -z $scan ]]; then
  echo "expected a scan file${task:+ for task $task of the array}, found ${#scans[@]}" >&2
  exit 2
fi

run() { # a command on all ranks; a signal to stop is passed on, and what is left to do gone on with
  local ranks=$((SLURM_JOB_NUM_NODES * NXMPI_RANKS_PER_NODE)) status runner interrupted
  # a rank that has stopped waits for the others, and no rank for ever for one that has died
  local launcher=(srun --mpi="$NXMPI_MPI" --nodes="$SLURM_JOB_NUM_NODES" --ntasks="$ranks"
    --ntasks-per-node="$NXMPI_RANKS_PER_NODE" --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}"
    --kill-on-bad-exit=0 --wait=60)
  if [[ $NXMPI_MPI == mpiexec ]]; then
    launcher=(mpiexec -n "$ranks" --map-by "ppr:$NXMPI_RANKS_PER_NODE:node")
  fi
  echo "$(date +%FT%T) job $this on $SLURM_JOB_NODELIST: $*"
  cancelled=
  trap 'interrupted=1; kill -USR1 "$runner"' USR1
  trap 'interrupted=1; cancelled=1' TERM
  "${launcher[@]}" "$@" &
  runner=$!
  while # bash runs a trap only when wait returns, which it does with a status of its own then
    interrupted= status=0
    wait "$runner" || status=$?
    [[ $interrupted ]]
  do :; done
  trap - USR1 TERM
  # 138: the signal came before the program was ready for it, and ended it
  if ((status == 75 || status == 138)) && [[ -z $cancelled ]]; then
    go_on
  fi
  exit "$status"
}

go_on() { # the state is saved, the same command goes on from it
  local times=$((${NXMPI_WENT_ON:-0} + ${SLURM_RESTART_COUNT:-0}))
  if ((times >= NXMPI_GO_ON_MOST)); then
    echo "stopped again after $times times: not gone on with" >&2
  elif [[ $NXMPI_GO_ON == requeue ]]; then
    scontrol requeue "$this" && sleep 60 # Slurm ends this script then
  else
    NXMPI_WENT_ON=$((times + 1)) submit_successor
  fi
}

submit_successor() { # a job like this one, for which those that wait for this one wait too
  local given successor old=${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID} waiting dependency
  given=$(scontrol show job --oneliner "$this")
  field() { sed -n "s/.* $1=\([^ ]*\).*/\1/p" <<<"$given" | sed 's/^(null)$//'; }
  export NXMPI_WENT_ON NXMPI_MPI NXMPI_JOBS=$jobs
  export NXMPI_FIRST_JOB=${NXMPI_FIRST_JOB:-$old}
  successor=$(
    sbatch --parsable --job-name="$SLURM_JOB_NAME" --comment="nxmpi $NXMPI_FIRST_JOB" \
      --nodes="$SLURM_JOB_NUM_NODES" --ntasks-per-node="$NXMPI_RANKS_PER_NODE" \
      --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" --partition="$SLURM_JOB_PARTITION" \
      --time="$(field TimeLimit)" ${task:+--array="$task"} \
      ${SLURM_JOB_ACCOUNT:+--account="$SLURM_JOB_ACCOUNT"} ${SLURM_JOB_QOS:+--qos="$SLURM_JOB_QOS"} \
      ${SLURM_JOB_RESERVATION:+--reservation="$SLURM_JOB_RESERVATION"} \
      --constraint="$(field Features)" --chdir="$SLURM_SUBMIT_DIR" --output="$(field StdOut)" \
      --kill-on-invalid-dep=yes --hold "$0" "${scans[@]}" "${options[@]}"
  )
  while IFS='|' read -r waiting dependency; do
    dependency=${dependency//(unfulfilled)/}
    case ,${dependency//_\*/}, in
      *after*:"$old"[,:]*)
        if [[ $dependency == *aftercorr* ]]; then
          waiting+=_$task
        fi
        scontrol update JobId="$waiting" Dependency="${dependency//_\*/},afterok:$successor"
        ;;
    esac
  done < <(squeue --noheader --me --states=PENDING --format='%F|%E')
  scontrol release "$successor"
  echo "job $successor goes on in place of this one"
  exit 0
}

scratch=()
if [[ $NXMPI_SCRATCH ]]; then
  scratch=(--scratch "$NXMPI_SCRATCH")
fi
