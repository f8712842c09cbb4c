"""Faults of the field, each planted in a small subclass of our own code, and the check that has to find it."""

from collections.abc import Callable
from dataclasses import replace

import torch

from pfedmoap.audit import MethodAdapter
from pfedmoap.audit.case import tiny_clip
from pfedmoap.audit.ours import small
from pfedmoap.client import FederatedData, Trained
from pfedmoap.federation import Federation
from pfedmoap.method import Method, mean_cross_entropy
from pfedmoap.methods import CoOp, FedPer, FedProx, PFedMoAP, PromptFL
from pfedmoap.prompts import PromptEncoder, TextFeatures
from pfedmoap.server import weighted_average

PLANTED: dict[str, tuple[str, Callable[[], MethodAdapter]]] = {}  # fault -> the check that finds it, what makes it


def planted(check: str, method: type[Method] = PFedMoAP) -> Callable[[type], type]:
    """Notes a class among the planted faults: a method, or a federation that trains one."""
    def note(fault: type) -> type:
        of, loop = (method, fault) if issubclass(fault, Federation) else (fault, Federation)
        PLANTED[fault.__name__] = check, lambda: MethodAdapter(
            small(of), federation=lambda method, plan, data, context, protocol: loop(method, plan, data, context))
        return fault

    return note


# --- the local update


@planted("moves")
class GateNotInTheOptimiser(PFedMoAP):
    def learning_rate(self, name, lr):
        return 0.0 if name.startswith("gate.") else lr


@planted("moves")
class OneMatrixOfTheGateIsForgotten(PFedMoAP):
    def learning_rate(self, name, lr):
        return 0.0 if name == "gate.value.weight" else super().learning_rate(name, lr)


@planted("moves", PromptFL)
class TheUpdateIsLost(Federation):
    def train_cohort(self, cohort):
        trained = super().train_cohort(cohort)
        return Trained(dict(cohort.start), trained.momentum, trained.losses)


@planted("gradients")
class GateOfAnotherLearningRate(PFedMoAP):
    def learning_rate(self, name, lr):
        return 5 * super().learning_rate(name, lr) if name.startswith("gate.") else lr


@planted("gradients")
class GateSeesADetachedPrompt(PFedMoAP):
    def gate_inputs(self, fixed, images, text):
        return super().gate_inputs(fixed, images, text.detach())


@planted("gradients")
class ProximalTermWithoutGradient(FedProx):
    def proximal_term(self, model, fixed):
        return super().proximal_term(model, fixed).detach()


@planted("gradients")
class SumInPlaceOfTheMean(PromptFL):
    def loss(self, model, fixed, images, labels, present, context):
        loss = super().loss(model, fixed, images, labels, present, context)
        return loss + 3 * (loss - loss.detach())


@planted("frozen", PromptFL)
class TheTowerTrainsAlong(Federation):
    def train_cohort(self, cohort):
        with torch.no_grad():
            tiny_clip().model.ln_final.bias.add_(1e-3)
        return super().train_cohort(cohort)


@planted("frozen")
class TrainsLentPromptsInPlace(Federation):
    def train_cohort(self, cohort):
        trained = super().train_cohort(cohort)
        for prompt in self.server.pool.entries.values():
            prompt.sub_(1e-3)
        return trained


@planted("learning_rate", PromptFL)
class ScheduleNeverSteps(Federation):
    def train_cohort(self, cohort):
        batches = replace(cohort.batches, rates=torch.ones_like(cohort.batches.rates))
        return replace(cohort, batches=batches).train()


@planted("learning_rate")
class ScheduleGoesOnOverTheRounds(PromptFL):
    keeps_optimizer = True


@planted("momentum", CoOp)
class ForgetsItsMomentum(Federation):
    def upload(self, cohort, trained, number):
        updates = super().upload(cohort, trained, number)
        self.momentum.clear()
        return updates


@planted("momentum", PromptFL)
class KeepsItsMomentum(Federation):
    def train_cohort(self, cohort):
        kept = self.__dict__.setdefault("buffers", {})
        trained = replace(cohort, momentum=kept.get(cohort.clients)).train()
        kept[cohort.clients] = trained.momentum
        return trained


@planted("momentum", PromptFL)
class OneOptimiserForAll(Federation):
    def train_cohort(self, cohort):
        trained = replace(cohort, momentum=self.__dict__.get("last")).train()
        self.last = trained.momentum
        return trained


@planted("weight_decay", PromptFL)
class NoWeightDecay(Federation):
    def train_cohort(self, cohort):
        return replace(cohort, recipe=replace(cohort.recipe, weight_decay=0.0)).train()


# --- what travels


@planted("neighbours")
class LendsItsOwnPromptFirst(PFedMoAP):
    def _choose(self, server, client):
        return [client, *super()._choose(server, client)][: self.experts]


@planted("neighbours")
class SkipsTheNearest(PFedMoAP):
    def _choose(self, server, client):
        return server.pool.nearest(client, self.experts + 1)[1:]


@planted("neighbours")
class LendsTheFarthest(PFedMoAP):
    def _choose(self, server, client):
        return server.pool.nearest(client, 10)[::-1][: self.experts]


@planted("neighbours")
class TiesGoToTheLargerId(PFedMoAP):
    def _choose(self, server, client):
        apart = {other: distance for other, distance in zip(*map(torch.Tensor.tolist, server.pool.distances(client)),
                                                            strict=True) if other != client}
        return sorted(apart, key=lambda other: (apart[other], -other))[: self.experts]


@planted("neighbours")
class NearestByCosine(PFedMoAP):
    def _choose(self, server, client):
        unit = {other: prompt.flatten() / (prompt.norm() + 1e-9) for other, prompt in server.pool.entries.items()}
        others = sorted((other for other in unit if other != client), key=lambda other: -(unit[other] @ unit[client]))
        return others[: self.experts]


@planted("average")
class AveragesWithoutWeights(PromptFL):
    def aggregate(self, server, uploads, sizes):
        super().aggregate(server, uploads, dict.fromkeys(sizes, 1))


@planted("average", PromptFL)
class WeighsByEveryonesImages(Federation):
    def average(self, uploads):
        share = sum(self.sizes(uploads).values()) / sum(map(len, self.data.train_rows))
        super().average({client: {name: tensor * share for name, tensor in upload.items()}
                         for client, upload in uploads.items()})


@planted("average")
class WeighsByTheWrongClients(PromptFL):
    def aggregate(self, server, uploads, sizes):
        turned = dict(zip(sizes, reversed(sizes.values()), strict=True))
        for name in server.shared:
            server.shared[name] = weighted_average({i: upload[name] for i, upload in uploads.items()}, turned)


@planted("personal")
class GateInTheUpload(PFedMoAP):
    def upload(self, trained):
        return trained


@planted("personal")
class PersonalTokensUnderAnotherName(FedPer):
    def upload(self, trained):
        return super().upload(trained) | {"state": trained["own"]}


@planted("personal")
class PersonalTokensAddedIn(FedPer):
    def upload(self, trained):
        return {"shared": trained["shared"] + 0.01 * trained["own"].mean()}


# --- images, labels, names


class OtherData(Federation):
    """A federation whose data went wrong on their way to it."""

    def __init__(self, method, plan, data, context):
        super().__init__(method, plan, self.changed(data), context)

    def changed(self, data: FederatedData) -> FederatedData:
        raise NotImplementedError


@planted("pairing", PromptFL)
class ImagesFromTheTopOfTheList(OtherData):
    def changed(self, data):
        return replace(data, train_features=data.train_features.sort(dim=1).values)


@planted("pairing", PromptFL)
class LabelsOneImageOff(OtherData):
    def changed(self, data):
        return replace(data, train_labels=data.train_labels.roll(1))


@planted("own_labels", PromptFL)
class LabelsOneClassOff(OtherData):
    def changed(self, data):
        return replace(data, train_labels=(data.train_labels + 1) % 8)


@planted("own_images", PromptFL)
class EverybodyTrainsOnTheFirstImages(OtherData):
    def changed(self, data):
        rows = [data.train_rows[0][: len(own)] for own in data.train_rows[1:]]
        return replace(data, train_rows=[data.train_rows[1][:3], *rows])


@planted("test_images", PromptFL)
class TrainsOnTestImages(OtherData):
    def changed(self, data):
        features = torch.cat([data.train_features, data.test_features[None]], dim=1)
        return replace(data, train_features=features, train_labels=torch.cat([data.train_labels, data.test_labels]),
                       train_rows=[torch.cat([torch.from_numpy(own), torch.from_numpy(test) + len(data.train_labels)])
                                   .numpy() for own, test in zip(data.train_rows, data.test_rows, strict=True)])


@planted("test_images", PromptFL)
class KeepsTheBestRoundOnTheTestSplit(Federation):
    def test(self, result, seconds):
        super().test(result, seconds)
        best = self.__dict__.setdefault("best", (-1.0, {}))
        if result.accuracy > best[0]:
            self.best = result.accuracy, dict(self.server.shared)
        if result.number == self.plan.rounds:
            self.server.shared = dict(self.best[1])


@planted("names", PromptFL)
class NamesFromAnUnorderedSet(Federation):
    def __init__(self, method, plan, data, context):
        names = tuple(set(context.text.encoder.class_names))
        super().__init__(method, plan, data, replace(context, text=TextFeatures(PromptEncoder(tiny_clip(), names))))


@planted("names", PromptFL)
class NamesInTheOrderOfTheAlphabet(Federation):
    def __init__(self, method, plan, data, context):
        names = sorted(context.text.encoder.class_names)
        super().__init__(method, plan, data, replace(context, text=TextFeatures(PromptEncoder(tiny_clip(), names))))


# --- runs as a whole


@planted("same_seed", PromptFL)
class DrawsFromTheGlobalGenerator(Federation):
    def start(self, client, download):
        start = super().start(client, download)
        return {name: tensor + 1e-3 * torch.randn_like(tensor) for name, tensor in start.items()}


@planted("order")
class ThePoolChangesInsideARound(Federation):
    def upload(self, cohort, trained, number):
        updates = super().upload(cohort, trained, number)
        self.cache({update.client: update.upload for update in updates})
        return updates


@planted("order", PromptFL)
class StartsWhereTheLastClientEnded(Federation):
    def upload(self, cohort, trained, number):
        updates = super().upload(cohort, trained, number)
        self.server.shared = dict(updates[0].upload)
        return updates


@planted("padding", PromptFL)
class PaddingCounts(Federation):
    def train_cohort(self, cohort):
        missing = cohort.recipe.batch_size - cohort.batches.images.shape[2]
        images = torch.nn.functional.pad(cohort.batches.images, (0, max(0, missing)))
        present = torch.ones(1, images.shape[2], dtype=torch.bool)
        return replace(cohort, batches=replace(cohort.batches, images=images, present=present)).train()


@planted("last_batch", PromptFL)
class KeepsTheLastBatch(Federation):
    def train_cohort(self, cohort):
        done, rows = super().train_cohort(cohort), self.data.train_rows[cohort.clients[0]]
        left = torch.tensor([row for row in rows.tolist() if row not in cohort.batches.images[0, 0].tolist()])
        if len(left) and len(rows) > cohort.recipe.batch_size:
            batches = replace(cohort.batches, images=left[None, None], steps=(1,),
                              present=torch.ones(1, len(left), dtype=torch.bool))
            done = replace(cohort, start=done.tensors, batches=batches).train()
        return done


@planted("company")
class NormalisesOverTheTestBatch(PromptFL):
    def examine(self, model, fixed, images, context):
        return self.logits(model, fixed, images - images.mean(1, keepdim=True), context), {}


@planted("company")
class TestingMovesTheModel(PromptFL):
    def tested(self, download, personal, client, context):
        download["prompt"].add_(0.01)
        return download


@planted("one_client")
class LeavesOutTheFirstClient(PromptFL):
    def aggregate(self, server, uploads, sizes):
        super().aggregate(server, dict(list(uploads.items())[1:]), sizes)


@planted("one_class")
class DividesByTheSpreadOfLabels(PromptFL):
    def loss(self, model, fixed, images, labels, present, context):
        logits = self.logits(model, fixed, images, context)
        return mean_cross_entropy(logits, labels, present) / labels.float().var(dim=1, correction=0)


@planted("no_experts")
class NeedsAnExpert(PFedMoAP):
    def download(self, server, client):
        download = super().download(server, client)
        if "experts" in download and not len(download["experts"]):
            raise IndexError("no neighbours")
        return download
