"""Control state: versioned rows of what operators decided, folded into typed records. Pure."""
