"""Lightning data modules: states, writes and documents, served so that an interrupted run goes on exactly."""
