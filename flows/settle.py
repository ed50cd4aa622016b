"""Runs that a killed machine left behind as Running, Pending or Cancelling: settled, so that the UI tells the truth."""

from __future__ import annotations

from prefect import State
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterName,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    TaskRunFilter,
    TaskRunFilterState,
    TaskRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.states import Cancelled, Crashed

from flows import turns

LEFT = [StateType.RUNNING, StateType.PENDING, StateType.CANCELLING]
SAID = "the machine or the process that ran it was killed; retry it, or leave it to the next schedule: what is finished is kept"


def settle(deployments: list[str]) -> list[str]:
    """The names of the flow runs that were settled: of these served deployments, and no process works on them.

    Call it before serving starts. Deployments of a work pool are their workers' business.
    """
    with get_client(sync_client=True) as client:
        served = [
            found.id
            for found in client.read_deployments(
                deployment_filter=DeploymentFilter(name=DeploymentFilterName(any_=deployments))
            )
            if found.work_pool_name is None
        ]
        settled = []
        for run in _left(client):
            if run.deployment_id in served and not turns.is_alive(run.id):
                _settle(client, run)
                settled.append(run.name)
        return settled


def _left(client: SyncPrefectClient) -> list[FlowRun]:
    states = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=LEFT)))
    return list(client.read_flow_runs(flow_run_filter=states, limit=200))


def _settle(client: SyncPrefectClient, run: FlowRun) -> None:
    was_cancelled = run.state_type == StateType.CANCELLING
    states = TaskRunFilter(state=TaskRunFilterState(type=TaskRunFilterStateType(any_=[StateType.RUNNING])))
    for task in client.read_task_runs(
        flow_run_filter=FlowRunFilter.model_validate({"id": {"any_": [run.id]}}), task_run_filter=states
    ):
        client.set_task_run_state(task.id, Crashed(message=SAID), force=True)
    state: State[None] = (
        Cancelled(message="its process ended while it was being cancelled") if was_cancelled else Crashed(message=SAID)
    )
    client.set_flow_run_state(run.id, state, force=True)
