"""torchvision's ResNet-18 from given weights, each member with a head of its own."""

from functools import partial

from torch.nn.functional import interpolate
from torchvision.models import resnet18

from klom_bench import Data, Recipe, Task
from klom_bench.tasks.digits import DIGITS

WEIGHTS = "resnet18.pt"  # torch.save(resnet18(weights="DEFAULT").state_dict(), "resnet18.pt")


def images(x):
    return interpolate(x.view(-1, 1, 8, 8), size=32).expand(-1, 3, -1, -1).contiguous()


def load():
    data = DIGITS.data
    x, y = images(data.x_train[:200]), data.y_train[:200]
    return Data(x, y, images(data.x_val[:100]), data.y_val[:100])


task = Task(
    name="pretrained",
    architecture=partial(resnet18, num_classes=10),
    load=load,
    forget_sets={"first_20": lambda: range(20)},
    train=Recipe(epochs=2, batch_size=32, lr=0.01),
    start=WEIGHTS,
    fresh="fc.*",
    pack=1,
)
