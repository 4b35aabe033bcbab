"""The commands of `scd-wm`: their arguments, and the function elsewhere that each one calls.

Nothing heavy is imported here, so that help is there at once. To add a command: two functions, one
that declares arguments and one that runs, and a line in `COMMANDS`.
"""

from scd_wm.commands.acting import add_plan, add_play
from scd_wm.commands.autoencoder import add_train_autoencoder
from scd_wm.commands.bench import add_bench
from scd_wm.commands.calibrate import add_calibrate
from scd_wm.commands.convert import add_convert
from scd_wm.commands.convert_model import add_convert_model
from scd_wm.commands.data import add_collect, add_inspect
from scd_wm.commands.looking import add_demo, add_evaluate, add_imagine
from scd_wm.commands.policies import add_evaluate_policies, add_rollout, add_train_policy
from scd_wm.commands.probe import add_probe
from scd_wm.commands.study import add_study
from scd_wm.commands.success import add_train_success
from scd_wm.commands.training import add_train

COMMANDS = (
    add_collect,
    add_inspect,
    add_convert,
    add_train,
    add_train_autoencoder,
    add_train_success,
    add_convert_model,
    add_calibrate,
    add_imagine,
    add_evaluate,
    add_probe,
    add_train_policy,
    add_rollout,
    add_evaluate_policies,
    add_plan,
    add_play,
    add_bench,
    add_study,
    add_demo,
)
