import dagster as dg
def test_a(materialized):
    for r in materialized.instance.get_records_for_run(materialized.run_id, limit=5000).records:
        e = r.event_log_entry
        if e.dagster_event and e.dagster_event.event_type in (dg.DagsterEventType.STEP_START, dg.DagsterEventType.STEP_SUCCESS):
            print(f"{e.timestamp % 1000:.1f}", e.step_key, e.dagster_event.event_type.value)
