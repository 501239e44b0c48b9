"""The routes, one router per noun; each takes the service and knows nothing of the others."""
