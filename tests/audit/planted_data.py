"""Planted faults of images, labels and names, and of runs as a whole."""

from dataclasses import replace

import torch
from planting import planted

from pfedmoap.audit.case import tiny_clip
from pfedmoap.client import FederatedData
from pfedmoap.federation import Federation
from pfedmoap.method import mean_cross_entropy
from pfedmoap.methods import PFedMoAP, PromptFL
from pfedmoap.prompts import PromptEncoder, TextFeatures

# --- images, labels, names


class OtherData(Federation):
    """A federation whose data went wrong on their way to it."""

    def __init__(self, method, plan, data, context):
        super().__init__(method, plan, self.changed(data), context)

    def changed(self, data: FederatedData) -> FederatedData:
        """What arrives."""
        return data


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
