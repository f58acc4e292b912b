"""The business: functions that take a session first and know no HTTP, one module a resource."""
