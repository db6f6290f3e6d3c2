"""The experiments on models by name."""

from bertkernels.analysis.experiments.approximate import Approximate, ApproximateArguments
from bertkernels.analysis.experiments.freeze import Freeze, FreezeArguments
from bertkernels.analysis.experiments.heads import Heads, HeadsArguments
from bertkernels.analysis.experiments.on_model import ModelExperiment
from bertkernels.analysis.experiments.remove import Remove, RemoveArguments
from bertkernels.analysis.experiments.replace import Replace, ReplaceArguments
from bertkernels.analysis.experiments.shuffle import Shuffle, ShuffleArguments
from bertkernels.analysis.experiments.swap import Swap, SwapArguments
from bertkernels.analysis.experiments.track import Track, TrackArguments
from bertkernels.analysis.experiments.variants import Variants, VariantsArguments

ON_MODELS: dict[str, tuple[type[ModelExperiment], type]] = {  # with their flags
    "approximate": (Approximate, ApproximateArguments),
    "replace": (Replace, ReplaceArguments),
    "remove": (Remove, RemoveArguments),
    "freeze": (Freeze, FreezeArguments),
    "track": (Track, TrackArguments),
    "swap": (Swap, SwapArguments),
    "shuffle": (Shuffle, ShuffleArguments),
    "heads": (Heads, HeadsArguments),
    "variants": (Variants, VariantsArguments),
}
