# How a job runs its step, is stopped, and goes on. Nothing here depends on the site.
#
# $scan is the scan file of this job, and "$@" its options: sbatch --array=0-2 frames.sbatch A.nxs
# B.nxs C.nxs has a task for each scan, sbatch --array=1-3 transform.sbatch A.nxs one for each of f1,
# f2 and f3, which is in "${entry[@]}"; scripts that do not use it refuse such an array.

shopt -s extglob
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
  if ((${#entry[@]})) && [[ " $* " != *" ${entry[*]} "* ]]; then
    echo "expected an array over several scans, or over positions in transform.sbatch;" \
      "found task $task for one scan" >&2
    exit 2
  fi
  # a rank that has stopped waits for the others, and no rank for ever for one that has died
  local launcher=(srun --mpi="$NXMPI_MPI" --nodes="$SLURM_JOB_NUM_NODES" --ntasks="$ranks"
    --ntasks-per-node="$NXMPI_RANKS_PER_NODE" --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}"
    --kill-on-bad-exit=0 --wait=60)
  if [[ $NXMPI_MPI == mpiexec ]]; then
    launcher=(mpiexec -n "$ranks" --map-by "ppr:$NXMPI_RANKS_PER_NODE:node")
  fi
  echo "$(date +%FT%T) job $this on $SLURM_JOB_NODELIST: $*"
  cancelled=
  trap 'interrupted=1; kill -USR1 "$runner" || true' USR1 # it may have ended just now
  trap 'interrupted=1; cancelled=1' TERM
  "${launcher[@]}" "$@" &
  runner=$!
  while # bash runs a trap only when wait returns, which it does with a status of its own then
    interrupted= status=0
    wait "$runner" || status=$?
    [[ $interrupted ]]
  do :; done
  trap '' USR1
  trap - TERM
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
  elif [[ $NXMPI_GO_ON == requeue ]] && scontrol requeue "$this"; then
    sleep 60 # Slurm ends this script meanwhile
  elif export NXMPI_WENT_ON=$((times + 1)) && submit_successor; then
    exit 0
  else # what waits for this job, its successor too, is cancelled by Slurm
    echo "not gone on with: no other job could take the place of this one" >&2
  fi
}

submit_successor() { # a job like this one, for which those that wait for this one wait too
  local given first=${NXMPI_FIRST_JOB:-${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}} mem mem_per_cpu extra
  local name output queue waiting terms successor clean=(env -u SBATCH_WAIT)
  given=$(scontrol show job "$this") || return 1
  field() { sed -n "s/.* $1=\([^ ]*\).*/\1/p" <<<"$given" | sed 's/^(null)$//'; }
  mem=$(field MinMemoryNode) mem_per_cpu=$(field MinMemoryCPU)
  output=$(sed -n 's/^ *StdOut=//p' <<<"$given")
  [[ $output -ef /proc/$$/fd/1 ]] || output=$(readlink "/proc/$$/fd/1") # a name with % is told wrongly
  mapfile -t extra < <(printf '%s' "${NXMPI_EXTRA:-}") # as nxmpi submit had them, one a line
  for name in $(compgen -e SQUEUE_); do # they would hide jobs that wait
    unset "$name"
  done
  for name in $(compgen -e SLURM_); do # they tell of this job
    [[ $name == SLURM_CONF ]] || clean+=(-u "$name")
  done
  # it begins after this one has ended well, which is after all is arranged for it
  successor=$(
    export NXMPI_MPI NXMPI_JOBS=$jobs NXMPI_FIRST_JOB=$first
    "${clean[@]}" sbatch --parsable "${extra[@]}" --begin=now --export=ALL \
      --dependency="afterok:$this" --kill-on-invalid-dep=yes \
      --job-name="$SLURM_JOB_NAME" --comment="nxmpi $first" \
      --nodes="$SLURM_JOB_NUM_NODES" --ntasks-per-node="$NXMPI_RANKS_PER_NODE" \
      --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" --partition="$SLURM_JOB_PARTITION" \
      --time="$(field TimeLimit)" ${task:+--array="$task"} \
      ${mem:+--mem="$mem"} ${mem_per_cpu:+--mem-per-cpu="$mem_per_cpu"} \
      ${SLURM_JOB_ACCOUNT:+--account="$SLURM_JOB_ACCOUNT"} ${SLURM_JOB_QOS:+--qos="$SLURM_JOB_QOS"} \
      ${SLURM_JOB_RESERVATION:+--reservation="$SLURM_JOB_RESERVATION"} \
      --constraint="$(field Features)" --chdir="$SLURM_SUBMIT_DIR" \
      --output="${output//\%/%%}" "$0" "${scans[@]}" "${options[@]}"
  ) || return 1
  successor=$(grep -Ex '[0-9]+(;.*)?' <<<"$successor" | tail -n 1) || return 1 # a site may say more
  successor=${successor%%;*} # a cluster's name may follow
  queue=$(squeue --noheader --all --array --states=PENDING --format='%i|%E') || return 1
  while IFS='|' read -r waiting terms; do
    if [[ $waiting != "$successor"?(_*) && $(hung_on "$waiting" "$terms") ]]; then
      hang "$waiting" "$successor" || return 1
    fi
  done <<<"$queue"
  echo "job $successor goes on in place of this one"
}

hung_on() { # what of its dependencies is this job: the kind of it, afterok or afterany
  local term kind job
  for term in ${2//[,?]/ }; do
    kind=${term%%:*} job=${term#*:} job=${job%%[(+]*}
    if [[ $job == "${this%_*}" || $job == "${this%_*}_*" || $job == "$this" ]]; then
      case $kind in
        aftercorr) if [[ ! $task || $1 == *_"$task" ]]; then echo afterok; fi ;;
        afterok | afterany) echo "$kind" ;;
      esac
    fi
  done | tail -n 1
}

hang() { # let a job wait for another one more; one at a time, or each would undo what others did
  local lock terms kind
  lock=$(scontrol show job "$1" | sed -n 's|^ *StdOut=\(.*\)/[^/]*$|\1|p') || return 1
  [[ -d $lock ]] || lock=${output%/*}
  lock=$lock/.$1.waits # its log is on a disk that all jobs see
  for _ in {1..120}; do
    if mkdir "$lock" 2>/dev/null; then
      terms=$(squeue --noheader --all --array --jobs="$1" --format=%E) &&
        kind=$(hung_on "$1" "$terms") &&
        terms=${terms//(*([^()]))/} && scontrol update JobId="$1" Dependency="${terms//_\*/},$kind:$2"
      local status=$?
      rmdir "$lock"
      return "$status"
    fi
    sleep 1
  done
  echo "$lock: expected to be removed by a job that stopped before, found for 120 s" >&2
  return 1
}

scratch=()
if [[ $NXMPI_SCRATCH ]]; then
  scratch=(--scratch "$NXMPI_SCRATCH")
fi
