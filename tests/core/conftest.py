"""The properties of the core: how fast an example runs is the machine's business, and this one may be busy."""

import hypothesis

hypothesis.settings.register_profile("declbind", deadline=None)
hypothesis.settings.load_profile("declbind")
