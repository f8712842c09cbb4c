"""A real federation: the same server, clients and gate as Flower apps on several processes or machines.

`ingest`, `coordinator`, `node` and `kept` know no transport and need no Flower. `server_app`, `client_app` and
`messages` put them on its Message API. `hosting` and `joining` start what has to run, in `links`, with `keys`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "coordinator": ["check_federable"],
        "demo": ["demonstrate", "describe"],
        "hosting": ["Host"],
        "ingest": ["Incoming", "Ingest"],
        "joining": ["Node", "join"],
        "links": ["Links", "require_flower"],
        "wire": ["Refused", "pack"],
    },
)
