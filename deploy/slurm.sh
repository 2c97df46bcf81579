#!/usr/bin/env bash
# sacro_ray on a Slurm cluster: one Ray over all nodes of a batch job, started before the command and stopped after it.
#  1. on the login node, in the repository, on a file system that all nodes share:  make install   (sets up .venv; Python as on the nodes)
#  2. look at the #SBATCH lines below; what sbatch is given on its command line overrides them
#  3. sbatch deploy/slurm.sh -m sacro_ray.train experiments/paper.toml      (the arguments are python's)
#  4. tail -f slurm-JOBID.out; a training that was stopped, or ran out of its time, goes on when it is submitted again
#  5. sbatch --nodes=1 deploy/slurm.sh -m sacro_ray.tune experiments/paper.toml --trials 40    (one node is as good as several)
#SBATCH --job-name=sacro_ray
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --mem-per-cpu=4G
#SBATCH --gpus-per-node=1
#SBATCH --time=24:00:00
#SBATCH --open-mode=append
set -euo pipefail

if [ "$#" -eq 0 ]; then
    echo "error: no command; give python's arguments: sbatch deploy/slurm.sh -m sacro_ray.train experiments/paper.toml" >&2
    exit 2
fi
cd "${SLURM_SUBMIT_DIR:?not inside a Slurm job; start this script with sbatch}"
export PATH="$PWD/.venv/bin:$PATH"

# A token for this job alone: nodes may be shared with others, and Ray runs whatever it is sent.
RAY_AUTH_TOKEN=$(python -c 'import secrets; print(secrets.token_hex(32))')
export RAY_AUTH_TOKEN RAY_AUTH_MODE=token RAY_worker_niceness=0
# Ray would let its servers' callers finish for 30 s, the time after which Slurm kills what is left; here nobody calls.
export RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S=0
# Slurm's batch step offers fewer CPUs to srun than the job has, unless told.
export SRUN_CPUS_PER_TASK="${SLURM_CPUS_PER_TASK:-1}"

head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
ip=$(srun --overlap --nodes=1 --ntasks=1 --nodelist="$head" hostname --all-ip-addresses | awk '{print $1}')
# Nodes may hold other jobs' Rays as well: every port that would be a fixed one is this job's own, below those that Linux gives out.
port=$((20000 + SLURM_JOB_ID % 3000 * 4))
temporary="/tmp/ray-$SLURM_JOB_ID"
what=(--num-cpus "$SRUN_CPUS_PER_TASK" --dashboard-agent-listen-port "$((port + 3))" --min-worker-port 0 --max-worker-port 0
    --disable-usage-stats --block)
[ -z "${SLURM_GPUS_ON_NODE:-}" ] || what+=(--num-gpus "$SLURM_GPUS_ON_NODE")

# On each node: Ray until its step ends, and then none of its files. A step ends by SIGTERM, from Slurm or from us; srun itself, ended
# by `kill`, would SIGKILL it. `ray stop` would stop the Rays of other jobs on the same nodes as well.
node='trap "until rm -rf \"$0\"; do sleep 1; done" EXIT; trap exit TERM;'
stop() {
    trap - EXIT TERM INT
    [ -z "${nodes:-}" ] || kill "$nodes" 2>/dev/null || true
    scancel --signal=TERM "$SLURM_JOB_ID" 2>/dev/null || true
    wait || true
    rm -rf "$temporary" # the command itself may have written there until now
}
trap stop EXIT
trap 'exit 143' TERM INT

srun --overlap --nodes=1 --ntasks=1 --nodelist="$head" bash -c "$node"' ray start "$@"' "$temporary" \
    --head --node-ip-address="$ip" --port="$port" --ray-client-server-port="$((port + 1))" --dashboard-port="$((port + 2))" \
    --dashboard-host=127.0.0.1 --temp-dir="$temporary" "${what[@]}" &
ray=$!
if [ "$SLURM_JOB_NUM_NODES" -gt 1 ]; then
    srun --overlap --nodes=$((SLURM_JOB_NUM_NODES - 1)) --ntasks=$((SLURM_JOB_NUM_NODES - 1)) --exclude="$head" \
        bash -c "$node"' until ray start "$@"; do sleep 5; done' "$temporary" --address="$ip:$port" "${what[@]}" &
fi
export RAY_ADDRESS="$ip:$port"
timeout 600 python - "$SLURM_JOB_NUM_NODES" <<'PYTHON' &
import os, socket, sys, time
import ray

host, port = os.environ["RAY_ADDRESS"].split(":")
while True:
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
        ray.init(log_to_driver=False, logging_level="ERROR")
        break
    except (OSError, RuntimeError):
        time.sleep(2)
while sum(node["Alive"] for node in ray.nodes()) < int(sys.argv[1]):
    time.sleep(2)
PYTHON
nodes=$!
while kill -0 "$nodes" 2>/dev/null; do
    if ! kill -0 "$ray" 2>/dev/null; then
        echo "error: Ray did not start on $head; what it said stands above" >&2
        exit 1
    fi
    sleep 1
done
if ! wait "$nodes"; then
    echo "error: not all $SLURM_JOB_NUM_NODES nodes had joined Ray after ten minutes" >&2
    exit 1
fi
python "$@"
