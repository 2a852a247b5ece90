"""The text of `patchpu inspect`."""

_BAR = 30
_LISTED = 10  # names or groups that are printed before "and N more"
_MODES = {
    "1": "black and white",
    "L": "grey",
    "LA": "grey, transparency becomes white",
    "P": "palette",
    "PA": "palette, transparency becomes white",
    "RGBA": "transparency becomes white",
    "CMYK": "print colours",
    "I": "grey of 16 or 32 bits",
    "I;16": "grey of 16 bits",
    "I;16B": "grey of 16 bits",
    "F": "grey, floating point",
}


def report(found):
    """The text of `patchpu inspect`.

    Args:
        found: Dict as of `inspect_files`.

    Returns:
        String of several lines.
    """
    lines = [f"images: {found['images']}"]
    if found["validation"]:
        lines[0] += f" ({found['train']} train, {found['validation']} validation)"

    width = min(40, max(len("label"), *[len(entry["name"]) for entry in found["labels"]], 0))
    most = max([1, *[entry["present"] for entry in found["labels"]]])
    lines += ["", f"{'label':{width}}  present   absent  unknown"]
    for entry in found["labels"]:
        # A label that is present somewhere has a bar of one mark at least.
        bar = "#" * -(-_BAR * entry["present"] // most)
        counts = "  ".join(f"{entry[key]:7d}" for key in ("present", "absent", "unknown"))
        name = shortened(entry["name"], width)
        lines.append(f"{name:{width}}  {counts}  {bar}".rstrip())
    if found["labels_with_few"]:
        in_train = {entry["name"]: entry["train"] for entry in found["labels"]}
        some = _some([f"{name} ({in_train[name]})" for name in found["labels_with_few"]])
        lines += ["", f"shown by fewer than {found['few']} training images: {some}"]
    if found["labels_not_in_validation"]:
        lines += ["", f"no validation image shows {_some(found['labels_not_in_validation'])}"]

    lines += [
        "",
        f"labels known present in an image: one in {found['one']} images, several in "
        f"{found['several']}, none in {found['none']}",
    ]
    if found["sizes"]:
        texts = [f"{name} {_size(size)}" for name, size in found["sizes"].items()]
        lines += ["", f"sizes, width x height: {', '.join(texts)}"]
        side = found["image_size"]
        if found["smaller_than_image"]:
            lines.append(
                f"  {found['smaller_than_image']} have a side below {side} pixels: enlarged for a "
                f"{side} x {side} image"
            )
    small = found["smaller_than_patch"]
    if small:
        lines.append(
            f"  WARNING: {len(small)} have a side below {found['patch_size']} pixels, smaller than "
            f"one patch; they are blown up and show the model little: {_some(small)}"
        )
    converted = [(mode, count) for mode, count in found["modes"].items() if mode != "RGB"]
    if converted:
        lines += ["", "colour modes converted to RGB:"]
        for mode, count in converted:
            lines.append(f"  {mode} ({_MODES.get(mode, 'other')}): {count}")
    lines += _duplicate_lines(found["duplicates"])

    if found["unreadable"]:
        lines += ["", f"images that cannot be read: {len(found['unreadable'])}"]
        lines += [f"  {entry['name']}: {entry['reason']}" for entry in found["unreadable"]]
    else:
        lines += ["", "every image can be read"]
    return "\n".join(lines)


def _duplicate_lines(duplicates):
    if not duplicates:
        return []
    differ = sum(group["labels_differ"] for group in duplicates)
    both = sum(group["in_both_splits"] for group in duplicates)
    lines = ["", f"groups of images that are the same, byte by byte: {len(duplicates)}"]
    if differ:
        lines.append(
            f"  WARNING: with different labels: {differ}; keep one image with the right ones"
        )
    if both:
        lines.append(f"  WARNING: in train and in validation: {both}")
    for group in sorted(duplicates, key=lambda group: not group["labels_differ"])[:_LISTED]:
        note = " (different labels)" if group["labels_differ"] else ""
        lines.append(f"  {' = '.join(group['names'][:_LISTED])}{note}")
    if len(duplicates) > _LISTED:
        lines.append(f"  and {len(duplicates) - _LISTED} more")
    return lines


def _some(names):
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more


def _size(size):
    return f"{size[1]} x {size[0]}"


def shortened(text, length):
    return text if len(text) <= length else f"{text[: length - 3]}..."
