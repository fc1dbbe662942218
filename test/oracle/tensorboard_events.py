"""An event file by TensorBoard's own RecordWriter and protobuf classes, for test/lib/base/tensorboard.test.ts."""

from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

TIME = 1700000000.25


def scalars(step, time, **values):
    return Event(wall_time=time, step=step, summary=Summary(value=[Summary.Value(tag=tag.replace("__", "/"), simple_value=value) for tag, value in values.items()]))


events = [
    Event(wall_time=TIME, file_version="brain.Event:2"),
    Event(wall_time=TIME, step=7, session_log=SessionLog(status=SessionLog.START)),
    scalars(7, TIME + 1, loss=0.1, eval__loss=-3.5e-20),
    scalars(128, TIME + 2.5, **{f"objective__metric_{i}": i / 7 for i in range(20)}),
    scalars(5_000_000_000, TIME + 1e6, **{"größe": 1e30}),
]
out = Path(__file__).parent.parent / "fixtures" / "tensorboard.events"
with out.open("wb") as file:
    writer = RecordWriter(file)
    for event in events:
        writer.write(event.SerializeToString(deterministic=True))
    writer.flush()
print(f"{out.name}: {len(events)} events, {out.stat().st_size} bytes")
