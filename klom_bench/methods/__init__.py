"""Unlearning methods: each is made of a short generator function over an ensemble."""

from klom_bench.methods.adversarial import amun
from klom_bench.methods.ascent import ga, gda, neggrad_plus
from klom_bench.methods.baselines import do_nothing, retrain
from klom_bench.methods.boundary import boundary_expand, boundary_shrink
from klom_bench.methods.dampening import assd, lfssd, ssd
from klom_bench.methods.distillation import bad_teacher, delete, scrub
from klom_bench.methods.finetuning import finetune, noisy_descent
from klom_bench.methods.fisher import fisher
from klom_bench.methods.freezing import cf_k, eu_k
from klom_bench.methods.geometry import munba, sfron
from klom_bench.methods.influence import influence, iu
from klom_bench.methods.kernels import ct, msg
from klom_bench.methods.matching import dm_direct, dmm, oracle_matching
from klom_bench.methods.noise import unsir
from klom_bench.methods.relabelling import random_label, salun
from klom_bench.methods.smoothing import jit
from klom_bench.methods.sparsity import l1_sparse
from klom_bench.methods.uncertainty import lotus

BUILT_IN = {
    method.name: method
    for method in (
        do_nothing,
        retrain,
        finetune,
        ga,
        gda,
        neggrad_plus,
        noisy_descent,
        random_label,
        salun,
        munba,
        sfron,
        scrub,
        bad_teacher,
        lotus,
        delete,
        boundary_shrink,
        boundary_expand,
        amun,
        jit,
        l1_sparse,
        cf_k,
        eu_k,
        ssd,
        lfssd,
        assd,
        fisher,
        influence,
        iu,
        msg,
        ct,
        unsir,
        dm_direct,
        dmm,
        oracle_matching,
    )
}
