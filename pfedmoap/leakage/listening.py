"""What passes through the server of a federated run, round by round: all that an honest but curious one can keep."""

from dataclasses import dataclass

from torch import Tensor

from pfedmoap.errors import UserError
from pfedmoap.experiments import Prepared
from pfedmoap.server import Tensors


@dataclass(frozen=True)
class Heard:
    """One round as the server sees it.

    Attributes:
        number: from 1.
        start: the shared prompt (m, e) that everyone is sent.
        pool: client -> its entry (m, e) before the round; empty for methods without a pool.
        downloads: client -> all that it is sent, for those that train.
        past_epochs: client -> local epochs that it has behind it.
        uploads: client -> the prompt (m, e) that it sends back.
    """

    number: int
    start: Tensor
    pool: dict[int, Tensor]
    downloads: dict[int, Tensors]
    past_epochs: dict[int, int]
    uploads: dict[int, Tensor]


def listen(prepared: Prepared) -> list[Heard]:
    """Runs all rounds of a fresh federation, without the tests between them, and keeps what goes to and fro.

    Raises:
        UserError: the method's clients do not upload one prompt each.
    """
    federation, method, heard = prepared.federation, prepared.experiment.method, []
    for number in range(1, prepared.experiment.rounds + 1):
        server = federation.server
        start, pool = server.shared.get("prompt"), dict(server.pool.entries)
        downloads = federation.downloads(federation.sample(number))
        past_epochs = {client: federation.epochs[client] for client in downloads}
        uploads = {update.client: update.upload for update in federation.train(downloads, number)}
        if not uploads or any(set(upload) != {"prompt"} for upload in uploads.values()):
            raise UserError(f"The clients of {method.title} do not upload one prompt each, which is what is attacked "
                            f"here: choose pfedmoap, promptfl or fedprox.")
        federation.cache(uploads)
        federation.average(uploads)
        prompts = {client: upload["prompt"] for client, upload in uploads.items()}
        heard.append(Heard(number, start, pool, downloads, past_epochs, prompts))
    return heard
