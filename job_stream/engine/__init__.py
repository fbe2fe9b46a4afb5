"""The pure engine: events in, actions out; no clock, no input or output, no user code, no pickle."""
