"""The gateway: who may reach the SuperLink. Authority, registry of devices, enrolment service, nginx before them."""
