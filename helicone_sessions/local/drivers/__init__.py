"""Where SQL runs: chDB in this process, or a ClickHouse server over HTTP."""
