"""Which encoding makes words of a zip's member names, where the zip does not say.

Zip files know UTF-8 and code page 437; programs on Windows write their country's code page and declare neither. All
names of an archive share one encoding, so all of them are judged together: double-byte encodings by how common and
usual the decoded characters are, the others by whether letters stand where letters belong. The user is always told of a
guessed encoding.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from graft.errors import InputError

# Byte pairs of the characters that most text consists of: kana and the first level of kanji and hanzi, Hangul.
_COMMON = {
    "cp932": re.compile(rb"[\x82\x83][\x40-\xf1]|[\x88-\x97][\x40-\x7e\x80-\xfc]|\x81[\x40-\xac]"),
    "gbk": re.compile(rb"[\xb0-\xd7][\xa1-\xfe]|[\xa1\xa3][\xa1-\xfe]"),
    "big5": re.compile(rb"[\xa4-\xc6][\x40-\x7e\xa1-\xfe]|\xa1[\x40-\x7e]"),
    "cp949": re.compile(rb"[\xb0-\xc8][\xa1-\xfe]|\xa1[\xa1-\xfe]"),
}
# The common characters that occur in names of things: the four encodings share most byte pairs, but not their meaning.
_USUAL = frozenset(
    "的一是不了人在有他这为大来以个中上们到说国和地也子时道出要于就下得可年生自会后能对事其里所去行过家十用发天作方成多日三小二无同"
    "经法当起与好看学进种分心前面定主公全两明动物植猫狗犬鸟鱼马牛羊猪鸡鸭鹅虎狮熊象猴兔鼠蛇龙龟蛙虫蝶蜂蚁花草树木叶果菜苹香蕉"
    "西红柿瓜豆米麦菊玫瑰荷梅兰竹松柏黄蓝绿白黑灰紫橙色车船飞机汽火路桥房屋门窗桌椅床灯书笔杯碗盘刀衣裤鞋帽包男女老正常异良恶性病"
    "健康训练测试验证数据图片类别标签合格品裂纹缺陷桃梨葡萄柠檬芒橘茄椒土豆胡萝卜"
    "這個來時說國會後對為發過經學進種動貓鳥魚馬豬雞鴨鵝獅龜龍蟲螞蟻樹葉蘋紅黃藍綠車飛機電話門書筆類別標籤圖測試驗證訓練資料數據"
    "異惡猿桜蘿蔔橋燈盤褲"
    "이다가는고지에사기하리어나아자서시대인스도그라장일수제로정전마보부오상주원해우개구비조동성한유소무미신안트진선의영은들양강토끼"
    "새말돼닭숭물코여곰슴호랑늑꽃튤립국화바과배포딸수박감귤차버류훈련검증학습데터빨간파란노초록흰색불남녀얼굴표쁨슬픔김치밥면식거북뱀"
)
_KANA = re.compile("[ぁ-ヿ]")
_LETTERS = {
    "cp437": re.compile("[ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜáíóúñÑß]"),
    "cp1252": re.compile("[À-ÖØ-öø-ÿŒœŠšŽžŸ]"),
    "cp866": re.compile("[А-Яа-яЁё]"),
    "cp1251": re.compile("[А-Яа-яЁё]"),
}
_HIGH = re.compile(rb"[\x80-\xff]+")
_SURE, _MARGIN = 0.7, 0.1


def encoding_of(names: Sequence[bytes]) -> tuple[str, bool]:
    """Return the encoding of names that are not UTF-8, and whether no other fits about as well."""
    ranked = sorted(((_fit(names, encoding), encoding) for encoding in (*_COMMON, *_LETTERS)), reverse=True)
    (best, encoding), (second, _) = ranked[:2]
    return (encoding, best >= _SURE and best - second > _MARGIN) if best > 0 else ("cp437", False)


def check_encoding(encoding: str) -> str:
    """Return the name of an encoding. Raises InputError if there is no such text encoding."""
    try:
        b"a".decode(encoding)
    except (LookupError, ValueError):
        raise InputError(
            f"expected the name of an encoding such as gbk, cp932 (Japanese), cp949 (Korean), big5 or cp1252, "
            f"got {encoding!r}: correct it"
        ) from None
    return encoding


def _fit(names: Sequence[bytes], encoding: str) -> float:
    """Return how well an encoding fits, from 0 to 1: the share of non-ASCII characters that are common in it."""
    try:
        texts = [name.decode(encoding) for name in names]
    except UnicodeDecodeError:
        return 0.0
    if encoding in _LETTERS:
        foreign = [character for text in texts for character in text if not character.isascii()]
        letters = sum(bool(_LETTERS[encoding].match(character)) for character in foreign)
        fit = letters / max(len(foreign), 1)
        runs = [len(run) for name in names for run in _HIGH.findall(name)]
        if encoding in ("cp437", "cp1252"):
            # In Western languages, non-ASCII letters come singly or in pairs.
            return fit * sum(run for run in runs if run < 3) / max(sum(runs), 1)
        # Cyrillic words are long, and are capitalised, all capitals or all lower case.
        words = re.findall("[А-Яа-яЁё]+", " ".join(texts))
        usual = sum(len(word) for word in words if len(word) > 1 and (word[1:].islower() or word.isupper()))
        return fit * usual / max(sum(map(len, words)), 1)
    foreign = [character for text in texts for character in text if not character.isascii()]
    common = [each for each in foreign if _COMMON[encoding].fullmatch(each.encode(encoding))]
    usual = sum(each in _USUAL or _KANA.match(each) is not None for each in common)
    return (len(common) + usual) / (2 * max(len(foreign), 1))
