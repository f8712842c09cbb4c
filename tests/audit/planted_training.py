"""Planted faults of local updates, of what is lent and averaged, and of what is sent."""

from dataclasses import replace

import torch
from planting import planted

from pfedmoap.audit.case import tiny_clip
from pfedmoap.client import Trained
from pfedmoap.federation import Federation
from pfedmoap.methods import CoOp, FedPer, FedProx, PFedMoAP, PromptFL
from pfedmoap.server import weighted_average

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
