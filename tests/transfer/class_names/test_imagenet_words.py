"""The list of everyday words: every entry names the classes that it should, and misses none that bear its name."""

import json
from pathlib import Path

import pytest

from graft.transfer.class_names.imagenet_words import ANCHORS, WORDS, imagenet_words
from graft.transfer.class_names.spelling import spellings_of

# The same entries by the names of the first and last class of every range, so that a slip of one index shows.
NAMES = {
    "fish": "tench to stingray, barracouta to puffer",
    "shark": "great white shark to hammerhead",
    "ray": "electric ray to stingray",
    "salmon": "coho",
    "clownfish, clown fish": "anemone fish",
    "pufferfish, puffer fish": "puffer",
    "bird": "cock to great grey owl, black grouse to black swan, white stork to albatross",
    "rooster, cockerel": "cock",
    "chicken": "cock to hen",
    "finch": "brambling to house finch",
    "eagle": "bald eagle",
    "owl": "great grey owl",
    "grouse": "black grouse to prairie chicken",
    "parrot": "African grey to lorikeet",
    "cockatoo": "sulphur-crested cockatoo",
    "duck": "drake to red-breasted merganser",
    "swan": "black swan",
    "stork": "white stork to black stork",
    "heron": "little blue heron to American egret",
    "egret": "American egret",
    "penguin": "king penguin",
    "amphibian": "European fire salamander to tailed frog",
    "salamander": "European fire salamander to axolotl",
    "newt": "common newt to eft",
    "frog": "bullfrog to tailed frog",
    "reptile": "loggerhead to sidewinder",
    "turtle": "loggerhead to box turtle",
    "tortoise": "box turtle",
    "lizard": "banded gecko to Komodo dragon",
    "gecko": "banded gecko",
    "iguana": "common iguana",
    "chameleon": "American chameleon, African chameleon",
    "crocodile": "African crocodile",
    "alligator": "American alligator",
    "dinosaur": "triceratops",
    "snake, serpent": "thunder snake to sidewinder",
    "boa": "boa constrictor",
    "python": "rock python",
    "cobra": "Indian cobra",
    "mamba": "green mamba",
    "rattlesnake": "diamondback to sidewinder",
    "insect, bug": "tiger beetle to lycaenid",
    "beetle": "tiger beetle to weevil",
    "ladybird": "ladybug",
    "butterfly": "admiral to lycaenid",
    "arachnid": "harvestman to tick",
    "spider": "black and gold garden spider to wolf spider",
    "worm": "flatworm to nematode",
    "crab": "Dungeness crab to king crab, hermit crab",
    "lobster": "American lobster to spiny lobster",
    "coral": "brain coral, coral reef",
    "nautilus": "chambered nautilus",
    "whale": "grey whale to killer whale",
    "orca": "killer whale",
    "seal": "sea lion",
    "sea star": "starfish",
    "mammal": "tusker to wombat, grey whale to meerkat, wood rabbit to giant panda",
    "dog, puppy": "Chihuahua to Mexican hairless",
    "hound": "Rhodesian ridgeback to Scottish deerhound",
    "terrier": "toy terrier, Staffordshire bullterrier to West Highland white terrier",
    "spaniel": "Japanese spaniel, Blenheim spaniel, Brittany spaniel to Irish water spaniel",
    "retriever": "flat-coated retriever to Chesapeake Bay retriever",
    "setter": "English setter to Gordon setter",
    "schnauzer": "miniature schnauzer to standard schnauzer",
    "sheepdog": "Old English sheepdog to Shetland sheepdog",
    "husky": "Eskimo dog, Siberian husky",
    "malamute": "malamute",
    "mastiff": "bull mastiff to Tibetan mastiff",
    "bulldog": "French bulldog",
    "pinscher": "Doberman to miniature pinscher, affenpinscher",
    "corgi": "Pembroke to Cardigan",
    "poodle": "toy poodle to standard poodle",
    "wolf": "timber wolf to red wolf",
    "wild dog": "dingo to African hunting dog",
    "fox": "red fox to grey fox",
    "cat, kitten": "tabby to Egyptian cat",
    "big cat, wildcat": "cougar to cheetah",
    "feline": "tabby to cheetah",
    "puma, mountain lion": "cougar",
    "bear": "brown bear to sloth bear",
    "polar bear": "ice bear",
    "rabbit, bunny": "wood rabbit, Angora",
    "rodent": "hamster to guinea pig",
    "hedgehog": "porcupine",
    "squirrel": "fox squirrel",
    "horse, pony": "sorrel",
    "pig": "hog",
    "swine": "hog to warthog",
    "hippo": "hippopotamus",
    "cow, cattle": "ox",
    "buffalo": "water buffalo",
    "sheep": "ram to bighorn",
    "goat": "ibex",
    "antelope": "hartebeest to gazelle",
    "camel": "Arabian camel",
    "ferret": "black-footed ferret",
    "sloth": "three-toed sloth",
    "primate": "orangutan to indri",
    "ape": "orangutan to siamang",
    "chimp": "chimpanzee",
    "monkey": "guenon to squirrel monkey",
    "lemur": "Madagascar cat to indri",
    "elephant": "tusker, Indian elephant to African elephant",
    "panda": "lesser panda to giant panda",
    "red panda": "lesser panda",
    "kangaroo": "wallaby",
    "marsupial": "wallaby to wombat",
    "car, automobile, auto": "beach wagon, cab, convertible, jeep, limousine, minivan, Model T, racer, sports car",
    "taxi": "cab",
    "limo": "limousine",
    "race car, racing car": "racer",
    "van": "minivan, moving van, police van",
    "truck, lorry": "fire engine, garbage truck, moving van, pickup, tow truck, trailer truck",
    "fire truck": "fire engine",
    "pickup truck": "pickup",
    "bus": "minibus, school bus, trolleybus",
    "train": "bullet train, electric locomotive, freight car, passenger car, steam locomotive",
    "locomotive": "electric locomotive, steam locomotive",
    "tram": "streetcar",
    "bicycle, bike": "bicycle-built-for-two, mountain bike",
    "motorcycle, motorbike": "moped, motor scooter",
    "scooter": "motor scooter",
    "boat": "canoe, catamaran, fireboat, gondola, lifeboat, speedboat, trimaran, yawl",
    "sailboat, sailing boat, yacht": "catamaran, schooner, trimaran, yawl",
    "ship": "aircraft carrier, container ship, liner, pirate, schooner, wreck",
    "watercraft, vessel": (
        "aircraft carrier, canoe, catamaran, container ship, fireboat, gondola, lifeboat, liner, "
        "pirate, schooner, speedboat, submarine, trimaran, wreck to yawl"
    ),
    "airplane, aeroplane, plane": "airliner, warplane",
    "aircraft": "airliner to airship, balloon, warplane",
    "spaceship, spacecraft": "space shuttle",
    "musical instrument": (
        "accordion to acoustic guitar, banjo, bassoon, cello, chime, cornet, drum, electric guitar, "
        "flute, French horn, gong, grand piano, harmonica to harp, maraca to marimba, oboe to ocarina, "
        "organ, panpipe, sax, steel drum, trombone, upright, violin"
    ),
    "guitar": "acoustic guitar, electric guitar",
    "piano": "grand piano, upright",
    "drum": "drum, steel drum",
    "saxophone": "sax",
    "trumpet": "cornet",
    "xylophone": "marimba",
    "clock": "analog clock, digital clock, wall clock",
    "watch": "digital watch, stopwatch",
    "wristwatch": "digital watch",
    "computer": "desktop computer, hand-held computer, laptop, notebook",
    "laptop": "laptop, notebook",
    "keyboard": "computer keyboard, typewriter keyboard",
    "phone, telephone": "cellular telephone, dial telephone, pay-phone",
    "cell phone, cellphone, mobile phone, smartphone": "cellular telephone",
    "camera": "Polaroid camera, reflex camera",
    "television, tv": "television",
    "washing machine": "washer",
    "vacuum cleaner": "vacuum",
    "fridge": "refrigerator",
    "hair dryer, hairdryer": "hand blower",
    "gun, firearm": "assault rifle, revolver to rifle",
    "pistol, handgun": "revolver",
    "furniture": (
        "barber chair, bassinet, bookcase, chest to chiffonier, china cabinet, cradle, crib, desk, "
        "dining table, entertainment center, file, folding chair, four-poster, medicine chest, "
        "park bench, rocking chair, studio couch, throne, wardrobe"
    ),
    "chair": "barber chair, folding chair, rocking chair, throne",
    "bench": "park bench",
    "table": "desk, dining table, pool table",
    "sofa, couch": "studio couch",
    "bed": "bassinet, cradle, crib, four-poster",
    "cabinet, cupboard": "china cabinet, file, medicine chest",
    "bookshelf": "bookcase",
    "lamp": "table lamp",
    "curtain": "shower curtain, theater curtain",
    "carpet, rug": "prayer rug",
    "towel": "bath towel, paper towel",
    "blanket": "quilt",
    "toilet": "toilet seat",
    "sink": "washbasin",
    "bath": "bathtub",
    "door": "sliding door",
    "roof": "thatch, tile roof",
    "fence": "chainlink fence, picket fence, worm fence",
    "bridge": "steel arch bridge, suspension bridge, viaduct",
    "shop, store": (
        "bakery, barbershop, bookshop, butcher shop, confectionery, grocery store, shoe shop, tobacco shop, toyshop"
    ),
    "lighthouse": "beacon",
    "trash can, garbage can, rubbish bin, bin": "ashcan",
    "traffic light": "traffic light",
    "bottle": "beer bottle, pill bottle, pop bottle, water bottle, wine bottle",
    "mug": "coffee mug",
    "bowl": "mixing bowl, soup bowl",
    "pan": "frying pan, wok",
    "spoon": "wooden spoon",
    "knife": "cleaver, letter opener",
    "basket": "hamper, shopping basket",
    "pen": "ballpoint, fountain pen, quill",
    "axe, ax": "hatchet",
    "drill": "power drill",
    "bag": "backpack, mailbag, plastic bag, purse",
    "handbag": "purse",
    "rucksack": "backpack",
    "hat": "bearskin, bonnet, cowboy hat, sombrero",
    "cap": "bathing cap, mortarboard, shower cap",
    "helmet": "crash helmet, football helmet, pickelhaube",
    "footwear": "clog, cowboy boot, Loafer, running shoe, sandal",
    "shoe": "clog, Loafer, running shoe, sandal",
    "sneaker, trainer": "running shoe",
    "boot": "cowboy boot",
    "shirt, t-shirt, tshirt": "jersey",
    "sweater, pullover": "cardigan, sweatshirt",
    "coat": "fur coat, lab coat, trench coat",
    "trousers, pants, jeans": "jean",
    "skirt": "hoopskirt, miniskirt, overskirt",
    "tie, necktie": "bolo tie, bow tie, Windsor tie",
    "swimsuit": "bikini, maillot to maillot, swimming trunks",
    "glove": "mitten",
    "sunglasses": "sunglass to sunglasses",
    "ball": (
        "baseball to basketball, croquet ball, golf ball, ping-pong ball, rugby ball, soccer ball, "
        "tennis ball, volleyball"
    ),
    "puzzle": "jigsaw puzzle, crossword puzzle",
    "flower": "daisy to yellow lady's slipper",
    "orchid": "yellow lady's slipper",
    "fungus": "mushroom, coral fungus to bolete",
    "food": "guacamole to pomegranate, carbonara to espresso, eggnog",
    "fruit": "Granny Smith to pomegranate",
    "apple": "Granny Smith",
    "vegetable": "head cabbage to cardoon",
    "cabbage": "head cabbage",
    "squash": "spaghetti squash to butternut squash",
    "courgette": "zucchini",
    "pepper, capsicum": "bell pepper",
    "bread": "French loaf to bagel",
    "burger, hamburger": "cheeseburger",
    "hot dog": "hotdog",
    "soup": "consomme",
    "pasta, spaghetti": "carbonara",
    "dessert": "trifle to ice lolly",
    "drink, beverage": "red wine to espresso, eggnog",
    "wine": "red wine",
    "coffee": "espresso",
    "mountain": "alp, volcano",
    "beach": "seashore",
    "lake": "lakeside",
}

# Classes whose last word is in the list, though they are not of that kind.
OTHERS = {
    "chicken": {83}, "finch": {14}, "amphibian": {408}, "boa": {552}, "dog": {275, 934}, "puppy": {29},
    "terrier": {153}, "wolf": {148, 272}, "cat": {383, 387}, "bear": {105, 387, 388, 850}, "horse": {344},
    "pig": {338}, "car": {565, 705, 829, 864}, "boat": {833}, "plane": {726}, "bed": {831}, "bag": {747, 797},
    "cap": {622}, "helmet": {570}, "ball": {747}, "apple": {956},
}  # fmt: skip


@pytest.fixture(scope="module")
def imagenet(shared: Path) -> list[str]:
    return json.loads((shared / "weights" / "imagenet_classes.json").read_text())


def test_every_entry_covers_the_classes_that_are_named_for_it(imagenet: list[str]) -> None:
    def first(index: str) -> str:
        return imagenet[int(index)].split(",")[0]

    found = {
        words: ", ".join(" to ".join(map(first, each.split("-"))) for each in ranges.split())
        for words, ranges in WORDS.items()
    }
    assert found == NAMES


def test_no_class_that_bears_a_word_is_missing_from_its_entry(imagenet: list[str]) -> None:
    missing: dict[str, set[int]] = {}
    spellings = [[f" {form}" for part in name.split(",") for form in spellings_of(part)] for name in imagenet]
    for word, indices in imagenet_words().items():
        for index in set(range(1000)) - indices:
            if any(spelling.endswith(f" {word}") for spelling in spellings[index]):
                missing.setdefault(word, set()).add(index)
    assert missing == OTHERS


def test_no_word_stands_for_what_is_the_whole_name_of_a_class(imagenet: list[str]) -> None:
    assert not imagenet_words().keys() & set(imagenet)


def test_no_word_is_listed_twice() -> None:
    words = [word for words in WORDS for word in words.split(", ")]
    assert len(words) == len(set(words)) == len(imagenet_words())


def test_the_anchors_are_names_of_imagenet(imagenet: list[str]) -> None:
    assert {index: imagenet[index].split(",")[0] for index in ANCHORS} == ANCHORS
