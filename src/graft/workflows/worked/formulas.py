"""How each worked example is calculated: the rule, then after a colon the example's numbers inserted.

Semicolons separate several calculations. An entry without a colon has nothing to calculate.
"""

FORMULAS = {
    # LeNet-5
    "lenet_c1_output": "(size + 2 · padding − kernel) / stride + 1: (32 + 2 · 0 − 5) / 1 + 1; (32 + 2 · 0 − 5) / 1 + 1",
    "lenet_c1_params": "(kernel² · maps + 1) · filters: (5² · 1 + 1) · 6",
    "lenet_c1_map": "as many maps as filters, each of size + 2 · padding − kernel + 1: 6; 28 + 2 · 2 − 5 + 1; "
    "28 + 2 · 2 − 5 + 1",
    "lenet_pool_params": "a pool takes the mean or the maximum of a window, so it has nothing to train",
    "lenet_c3_kernel": "kernel² · maps, and one bias: 5² · 6; 5² · 6 + 1",
    "lenet_c3_params": "(kernel² · maps + 1) · filters: (5² · 6 + 1) · 16",
    "lenet_s4_output": "a pool keeps the maps and divides their size by its stride: 16; 10 / 2; 10 / 2",
    "lenet_flatten": "maps · height · width: 16 · 5 · 5",
    "lenet_fc1_params": "inputs · outputs + outputs: 400 · 120 + 120",
    "lenet_fc2_params": "inputs · outputs + outputs: 120 · 84 + 84",
    "lenet_fc3_params": "inputs · outputs + outputs: 84 · 10 + 10",
    "lenet_total": "the sum over C1, C3, C5, F6 and the output: 156 + 2416 + 48120 + 10164 + 850",
    "lenet_against_dense": "the dense layer has 1,200 · 1,200 weights",
    "lenet_summary_table": "(kernel² · maps + 1) · filters for a convolution, 0 for a pool and for flattening: "
    "(5² · 1 + 1) · 6; 0; (5² · 6 + 1) · 16; 0; (5² · 16 + 1) · 120; 0; (120 + 1) · 84; (84 + 1) · 10",
    "lenet_weight_layers": "C1, C3, C5, F6 and the output; pools have no weights: 3 + 2",
    "lenet_lr_schedule_code": "numbered from 0, epochs 0 to 2 are not above 2, 3 to 5 not above 5, 6 to 9 not above 9: "
    "2 − 0 + 1; 5 − 3 + 1; 9 − 6 + 1",
    "lenet_lr_schedule_paper": "LeCun et al. 1998, section III-B, prints the five rates and their passes",
    # AlexNet
    "alexnet_params": "(kernel² · maps / groups + 1) · filters for the convolutions, (inputs + 1) · outputs for the "
    "dense layers: (11² · 3 + 1) · 96 + (5² · 96 / 2 + 1) · 256 + (3² · 256 + 1) · 384 + (3² · 384 / 2 + 1) · 384 "
    "+ (3² · 384 / 2 + 1) · 256 + (6² · 256 + 1) · 4096 + (4096 + 1) · 4096 + (4096 + 1) · 1000",
    "alexnet_neurons": "maps · height · width for each weight layer: 96 · 55² + 256 · 27² + 384 · 13² + 384 · 13² "
    "+ 256 · 13² + 4096 + 4096 + 1000",
    "alexnet_input_size": "(size − kernel) / stride, rounded down, + 1: "
    "floor((224 − 11) / 4) + 1; floor((227 − 11) / 4) + 1",
    "alexnet_layer_text": "five convolutions, three pools and three dense layers: 5 + 3 + 3",
    # VGG
    "vgg_three_3x3": "layers · kernel²: 3 · 3²",
    "vgg_one_7x7": "kernel²: 7²",
    "vgg_one_3x3": "kernel²: 3²",
    "vgg_7x7_reduction": "100 · (1 − after / before): round(100 · (1 − 27 / 49), 1)",
    "vgg_receptive_field_7": "1 + layers · (kernel − 1) at stride 1: 1 + 3 · (3 − 1)",
    "vgg_receptive_field_5": "1 + layers · (kernel − 1) at stride 1: 1 + 2 · (3 − 1)",
    "vgg16_table": "(9 · in + 1) · out for each convolution, (in + 1) · out for each dense layer, 0 for each pool: "
    "1792 + 36928 + 73856 + 147584 + 295168 + 2 · 590080 + 1180160 + 5 · 2359808 + 102764544 + 16781312 + 4097000",
    "vgg_millions": "(9 · in + 1) · out for each convolution, or (in + 1) · out where it is 1 × 1, plus 123,642,856 of "
    "the dense layers",
    "vgg_configuration_table": "the convolutions in the column and three dense layers: 8 + 3; 8 + 3; 10 + 3; 13 + 3; "
    "13 + 3; 13 + 3",
    "vgg_pool_stride": "five pools take 224 px to 7, so each divides the size by 2: round((224 / 7) ** (1 / 5))",
    "vgg19_more_than_144": "VGG-16's three convolutions more, one in each of the last three blocks",
    "vgg16_storage": "bytes of a number · parameters: 4 · 138357544",
    "vgg16_head_replaced": "the table without its dense layers, then (inputs + 1) · 2 for each vector: 138357544 − "
    "123642856; (25088 + 1) · 2; (4096 + 1) · 2; (512 + 1) · 2",
    "top5_accuracy_to_error": "100 − accuracy: round(100 − 92.7, 1)",
    # GoogLeNet
    "inception_naive_depth": "concatenation adds the channels, and the pool keeps all of its own: 64 + 128 + 32 + 200; "
    "32; 32",
    "inception_5x5_cost": "pixels · kernel² · in · out: 32² · 5² · 200 · 32",
    "inception_reduce_1x1": "pixels · kernel² · in · out: 32² · 1² · 200 · 16",
    "inception_reduce_5x5": "pixels · kernel² · in · out: 32² · 5² · 16 · 32",
    "inception_reduced_cost": "the sum of both: 32² · 200 · 16 + 32² · 5² · 16 · 32",
    "googlenet_module_count": "3a and 3b, 4a to 4e, 5a and 5b: 2; 5; 2",
    "googlenet_depth": "three layers before the modules, two in each of nine, and the linear one: 3 + 9 · 2 + 1",
    "googlenet_params": "the sum over all layers, without and with the two classifiers that only training uses",
    "googlenet_times_fewer": "VGG-16's over the 13,004,888 of the checkpoint with both classifiers: round(138357544 / "
    "13004888, 1)",
    "conv1x1_output": "as many maps as filters, of the same size: 64; 32; 32",
    "conv5x5_direct": "kernel² · in · out: 5² · 256 · 32",
    "conv1x1_reduce": "kernel² · in · out: 1² · 256 · 64",
    "conv5x5_after_reduce": "kernel² · in · out: 5² · 64 · 32",
    "conv1x1_then_5x5": "the sum of both: 256 · 64 + 5² · 64 · 32",
    # ResNet, MobileNet, transfer
    "residual_identity": "ReLU(F(x) + x) with F = 0: max(0, 0.0); max(0, 0.5); max(0, 2.0)",
    "residual_wording": "the block's output is H(x), and its input reaches the output by the shortcut",
    "standard_conv_3x3": "kernel² · in · out: 3² · 16 · 32",
    "depthwise_separable_3x3": "kernel² · in + in · out: 3² · 16 + 16 · 32",
    "transfer_scenarios": "the more images the deeper the tuning, and the more alike they are the less of it",
}
