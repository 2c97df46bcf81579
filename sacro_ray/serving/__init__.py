"""The page for one radiograph and its HTTP interface: what goes over the wire. Knows neither Ray nor torch."""
